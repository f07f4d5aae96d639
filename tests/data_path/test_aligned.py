"""Volumes of one study on one grid: what they share, how they are put there, and on real scans."""

from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import medssl.data.aligned
from medssl.curation.curate import CurateConfig, curate
from medssl.data.aligned import Placed, read_frames, resample_onto, shared_box, shared_grids
from medssl.data.contrast_table import Said, read_contrast_table
from medssl.data.prepare import PrepareConfig, prepare
from medssl.data.store import CropStore
from medssl.errors import InputError
from medssl.ingest.config import IngestConfig
from medssl.ingest.ingest import ingest
from medssl.library.catalog import read_catalog


def placed(key, shape, spacing=1.0, origin=(0, 0, 0)):
    affine_ras = np.diag([spacing, spacing, spacing, 1.0])
    affine_ras[:3, 3] = origin
    return Placed(key, "patient", shape, affine_ras)


def test_the_shared_box_is_what_all_members_show():
    shared = shared_box(
        [
            placed("a", (20, 20, 20)),
            placed("b", (20, 20, 20), origin=(4, 0, 0)),
            placed("c", (10, 10, 10), spacing=2.0, origin=(0.5, 0.5, 4.5)),
        ],
        0.5,
    )
    assert {member.volume_key for member in shared.members} == {"a", "b", "c"}
    assert shared.box == (slice(4, 20), slice(0, 20), slice(4, 20))


def test_who_shows_too_little_of_it_stays_alone():
    far = placed("b", (20, 20, 20), origin=(15, 0, 0))
    assert shared_box([placed("a", (20, 20, 20)), far], 0.5) is None
    assert shared_box([placed("a", (20, 20, 20)), far], 0.2) is not None


def test_every_volume_is_in_one_group_at_most_and_the_finest_gives_the_grid():
    volumes = [
        placed("coarse", (10, 10, 10), spacing=2.0, origin=(0.5, 0.5, 0.5)),
        placed("fine", (20, 20, 20)),
        placed("elsewhere", (20, 20, 20), origin=(100, 0, 0)),
        placed("beside", (20, 20, 20), origin=(102, 0, 0)),
    ]
    asked = []

    def grid_of(reference, box):
        asked.append(reference.volume_key)
        return (5, 5, 5), reference.affine_ras

    grids = shared_grids(volumes, 0.5, grid_of)
    groups = {frozenset(grid.members) for grid in grids}
    assert groups == {frozenset({"elsewhere", "beside"}), frozenset({"fine", "coarse"})}
    assert "coarse" not in asked
    assert len({grid.group for grid in grids}) == 2


def slow_linear(array_IJK, point, background):
    """Trilinear interpolation at one point; edges reach half a voxel beyond the centres."""
    padded = np.pad(array_IJK.astype(np.float64), 1, mode="edge")
    point = np.asarray(point) + 1
    if (point < 0).any() or (point > np.subtract(padded.shape, 1)).any():
        return background
    low = np.minimum(np.floor(point).astype(int), np.subtract(padded.shape, 2))
    share, total = point - low, 0.0
    for corner in product((0, 1), repeat=3):
        weight = np.prod([s if c else 1 - s for s, c in zip(share, corner, strict=True)])
        total += weight * padded[tuple(low + corner)]
    return total


def test_another_grid_is_read_by_linear_interpolation():
    rng = np.random.default_rng(0)
    array_IJK = rng.random((5, 6, 7)).astype(np.float32)
    affine_ras = np.diag([2.0, 2.0, 2.0, 1.0])
    turned = np.array([[0.8, -0.6, 0, 1], [0.6, 0.8, 0, -1], [0, 0, 1, 2], [0, 0, 0, 1.0]])
    grid_ras = turned @ np.diag([1.5, 1.5, 1.5, 1.0])
    found = resample_onto(array_IJK, affine_ras, (4, 5, 6), grid_ras, -1.0)
    for index in np.ndindex(4, 5, 6):
        at = np.linalg.inv(affine_ras) @ grid_ras @ (*index, 1)
        assert found[index] == pytest.approx(slow_linear(array_IJK, at[:3], -1.0), abs=1e-5)


def test_its_own_grid_gives_the_volume_back():
    array_IJK = np.random.default_rng(0).integers(-1000, 3000, (4, 5, 6)).astype(np.int16)
    affine_ras = np.diag([1.0, 2.0, 3.0, 1.0])
    again = resample_onto(array_IJK, affine_ras, (4, 5, 6), affine_ras, -1024)
    assert again.dtype == np.int16
    assert np.array_equal(again, array_IJK)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("volume_key,patient\na,b\n", "columns"),
        ("volume_key,contrast\na,nonsense\n", "line 2 .* not known"),
        ("volume_key,contrast\na,PD\na,MT\n", "names a volume again"),
        ("volume_key,contrast\n,PD\n", "names no volume"),
    ],
)
def test_mistakes_in_the_table_are_explained(tmp_path, text, message):
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_contrast_table(tmp_path / "table.csv")


def mutual_information(a_IJK, b_IJK):
    """In nats, from a joint histogram of 32 x 32 cells."""
    joint = np.histogram2d(a_IJK.ravel(), b_IJK.ravel(), 32)[0]
    joint /= joint.sum()
    alone = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    seen = joint > 0
    return float((joint[seen] * np.log(joint[seen] / alone[seen])).sum())


def test_two_sequences_of_a_brain_lie_on_each_other(tmp_path, shipped):
    library = tmp_path / "library"
    ingest(
        IngestConfig(
            sources=(str(shipped / "nifti"),),
            library=library,
            key_file=tmp_path / "key",
            create_key=True,
            patient_pattern="(?P<patient>[a-z0-9]+_p[0-9]+)_",
            modalities={"mr/*": "MR"},
            exclude=("ct/*", "*t1_head*"),
            workers="inline",
            tracking={"enabled": False},
        )
    )
    curate(CurateConfig(library=library, name="s", tracking={"enabled": False}))
    catalog = read_catalog(library)
    studies = catalog.groupby("patient_key")["volume_key"].apply(list)
    pair = next(keys for keys in studies if len(keys) == 3)[:2]  # registered by who published them
    table = tmp_path / "table.csv"
    table.write_text("volume_key,group\n" + "".join(f"{key},brain\n" for key in pair))
    prepare(
        PrepareConfig(
            library=library,
            selection="s",
            out=tmp_path / "store",
            spacing_mm=(2, 2, 2),
            align_sequences=True,
            contrast_table=table,
            workers="inline",
            tracking={"enabled": False},
        )
    )
    store = CropStore(tmp_path / "store")
    entries = [store.entry(key) for key in pair]
    assert entries[0].group == entries[1].group is not None
    assert entries[0].shape == entries[1].shape
    assert entries[0].affine_ras == entries[1].affine_ras
    assert all(store.entry(k).group is None for k in set(store.keys()) - set(pair))
    one, other = (store.read(key, (0, 0, 0), entries[0].shape).astype(float) for key in pair)
    inside = (slice(8, -8),) * 3
    head = one[inside] > entries[0].foreground_above  # air agrees with air wherever it is
    at_zero = mutual_information(one[inside][head], other[inside][head])
    for axis in range(3):
        for shift in (-4, 4):
            moved = np.roll(other, shift, axis)[inside][head]
            assert mutual_information(one[inside][head], moved) < 0.9 * at_zero


def catalogued(monkeypatch, rows):
    """A catalog of these volumes, in place of the library's."""
    defaults = {"patient_key": "p", "study_key": "s", "frame_key": "f"}
    defaults |= {"shape_i": 4, "shape_j": 4, "shape_k": 4, "affine_ras": np.eye(4).ravel().tolist()}
    table = pa.Table.from_pylist([defaults | row for row in rows])
    monkeypatch.setattr(medssl.data.aligned, "read_catalog_table", lambda *_: table)


def frames(rows, monkeypatch, said=None):
    catalogued(monkeypatch, rows)
    keys = [row["volume_key"] for row in rows if row["volume_key"] != "not kept"]
    found = read_frames(Path("library"), keys, said or {})
    return {frozenset(p.volume_key for p in together) for together in found}


def test_volumes_of_one_study_that_state_one_frame_belong_together(monkeypatch):
    rows = [
        {"volume_key": "a"},
        {"volume_key": "b"},
        {"volume_key": "other frame", "frame_key": "g"},
        {"volume_key": "other study", "study_key": "t"},
        {"volume_key": "other patient", "patient_key": "q"},
        {"volume_key": "states none", "frame_key": ""},
        {"volume_key": "neither", "frame_key": ""},
        {"volume_key": "not kept"},
    ]
    assert frames(rows, monkeypatch) == {frozenset({"a", "b"})}


def test_a_table_speaks_for_files_that_state_no_frame_and_before_those_that_do(monkeypatch):
    rows = [
        {"volume_key": key, "frame_key": frame} for key, frame in zip("abc", "ff ", strict=True)
    ]
    said = {"b": Said("PD", "x"), "c": Said("R1", "x")}
    assert frames(rows, monkeypatch, said) == {frozenset({"b", "c"})}


@pytest.mark.parametrize(
    ("change", "message"),
    [({"patient_key": "q"}, "several patients"), ({}, "more than one PD")],
)
def test_groups_that_cannot_be_meant_are_refused(monkeypatch, change, message):
    rows = [{"volume_key": "a"}, {"volume_key": "b"} | change]
    said = dict.fromkeys("ab", Said("PD", "x"))
    with pytest.raises(InputError, match=message):
        frames(rows, monkeypatch, said)
