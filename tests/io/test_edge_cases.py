"""The specification's table of edge cases, row by row: what ingest makes of each."""

import shutil

import numpy as np
import pytest

from pipelines.benchmarks.cases import CASES, ours
from pipelines.benchmarks.cases.case import Expected
from pipelines.benchmarks.cases.judge import Made, fault, matched
from pipelines.benchmarks.cases.phantoms import affine_ras, phantom

BY_ROW = {case.row: case for case in CASES}
IN_SPECIFICATION = [
    *(1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 41, 12, 13, 14, 15, 16, 17, 71, 85, 18, 60, 70, 19, 20),
    *(21, 22, 23, 24, 25, 26, 82, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 42),
    *(43, 44, 45, 46, 50, 51, 52, 53, 54, 55, 56, 57, 80, 81, 83, 84, 87, 88, 89, 93, 95),
]
ORDERLESS = ["3", "14", "16", "19", "20", "38", "39", "60", "95b"]


def case_of(case):
    skip = pytest.mark.skipif(bool(case.absent), reason=case.absent)
    return pytest.param(case, id=case.name, marks=skip)


@pytest.mark.parametrize("case", [case_of(case) for case in CASES])
def test_row(case, tmp_path):
    case.build(tmp_path / "scan")
    assert ours.faults(case, ours.run(case, tmp_path / "scan", tmp_path)) == []


def test_every_row_of_the_specification_is_there():
    assert {str(row) for row in IN_SPECIFICATION} <= BY_ROW.keys()
    assert {f"R{n}" for n in range(1, 6)} <= BY_ROW.keys()
    assert len(BY_ROW) == len(CASES)


def shuffled(source, target):
    """Copy the files under other names, in another order."""
    target.mkdir()
    files = sorted(path for path in source.rglob("*") if path.is_file())
    for number in np.random.default_rng(1).permutation(len(files)):
        shutil.copy(files[number], target / f"renamed {len(files) - number:03d}.bin")


def linked(source, target):
    target.symlink_to(source, target_is_directory=True)


@pytest.mark.parametrize("row", ORDERLESS)
def test_names_order_and_links_change_nothing(row, tmp_path):
    case, source = BY_ROW[row], tmp_path / "scan"
    case.build(source)
    first = ours.run(case, source, tmp_path / "first")
    repeated = ours.run(case, source, tmp_path / "first")
    shuffled(source, tmp_path / "shuffled")
    linked(source, tmp_path / "linked")
    for other in (
        repeated,
        ours.run(case, tmp_path / "shuffled", tmp_path / "second"),
        ours.run(case, tmp_path / "linked", tmp_path / "third"),
    ):
        assert other.digests == first.digests
        assert other.others == first.others


def plain(array=None, affine=None):
    affine = affine_ras() if affine is None else affine
    return Made(phantom(affine, Expected().shape) if array is None else array, affine)


def moved(axis, by_mm):
    affine = affine_ras()
    affine[axis, 3] += by_mm
    return affine


@pytest.mark.parametrize(
    "made",
    [
        plain(np.flip(plain().array_IJK, 2)),
        plain(plain().array_IJK, moved(2, 1.5)),
        plain(plain().array_IJK[:, :, :-1]),
        plain(plain().array_IJK + 1),
        plain(np.zeros(Expected().shape)),
        plain(affine=moved(0, 500)),
    ],
    ids=["flipped", "half a slice off", "a slice short", "1 HU off", "empty", "elsewhere"],
)
def test_a_wrong_volume_is_found_wrong(made):
    assert fault(plain(), Expected()) == ""
    assert fault(made, Expected()) != ""


def test_one_volume_does_not_count_for_two():
    assert matched([plain()], [Expected(), Expected()], lenient=False) == ["", "nothing came out"]
