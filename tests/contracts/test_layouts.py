"""Every layout keeps the promises of medssl.labelled.layouts.base; new files are picked up."""

import re

import pytest

from medssl.config.choice import available, find
from medssl.errors import InputError
from medssl.labelled.cases import read_image, read_pair
from medssl.labelled.read import choose_layout, read_labelled
from medssl.labelled.splits import LabelledSplitConfig, split_cases
from tests.labelled.examples import EXAMPLES

LAYOUTS = available("medssl.labelled.layouts")


@pytest.fixture(scope="module", params=LAYOUTS)
def name(request):
    assert request.param in EXAMPLES, "write a small set of this layout in tests/labelled/examples"
    return request.param


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """A set of every layout."""
    root = tmp_path_factory.mktemp("layouts")
    return {layout: write(root / layout) for layout, write in EXAMPLES.items()}


@pytest.fixture
def layout(name):
    return find("medssl.labelled.layouts", name)()


def test_it_says_what_it_looks_for(layout):
    assert len(layout.looks_for.split()) > 3
    assert not layout.looks_for.endswith(".")


def test_it_knows_its_own_sets_and_no_others(name, layout, examples):
    mismatches = {other: layout.mismatch(path) for other, path in examples.items()}
    assert mismatches.pop(name) == ""
    assert all(mismatches.values())


def test_it_is_chosen_by_looking(name, layout, examples):
    assert type(choose_layout(examples[name])) is type(layout)
    assert type(choose_layout(examples[name], name)) is type(layout)


def test_looking_never_fails(layout, tmp_path):
    (tmp_path / "dataset.json").write_text("[[[")
    (tmp_path / "dataset.csv").write_bytes(b"\xff\x00\xfe\xfe")
    (tmp_path / "numbers.json").write_text("17")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path, *tmp_path.iterdir(), tmp_path / "absent", tmp_path / "absent.csv"):
        assert layout.mismatch(path)


def test_its_cases_are_numbered_and_every_one_can_be_read(name, examples):
    labelled = read_labelled(examples[name])
    keys = [case.case_key for case in labelled.cases]
    assert keys == [f"case-{number:03d}" for number in range(1, len(keys) + 1)]
    for case in labelled.cases:
        assert re.fullmatch(r"patient-\d{3}", case.patient_key)
        volume = read_image(case, labelled.modality)
        assert volume.modality == labelled.modality
        if case.label is not None:
            again, label_IJK = read_pair(case, labelled.modality)
            assert again.shape == label_IJK.shape == volume.shape
            assert set(label_IJK.ravel().tolist()) - {0} == set(case.classes)
            assert all(number < len(labelled.labels) for number in case.classes)


def test_all_cases_have_the_same_targets_or_a_label(name, examples):
    cases = read_labelled(examples[name]).cases
    assert len({tuple(case.targets) for case in cases}) == 1
    assert all(case.label is not None or case.targets for case in cases)


def test_a_set_read_again_is_the_same(name, examples):
    one, other = (read_labelled(examples[name]) for _ in range(2))
    assert one == other
    config = LabelledSplitConfig(test=0.0, val=0.3)
    assert split_cases(one.cases, config) == split_cases(other.cases, config)


def test_a_cut_file_is_a_problem_of_its_case(name, tmp_path):
    path = EXAMPLES[name](tmp_path / name)
    case = read_labelled(path).cases[1]
    file = (*case.files, case.image)[0]
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(
        InputError, match=rf"1 problem\(s\) .*\n  - {case.case_key}.*cannot be read"
    ):
        read_labelled(path)
