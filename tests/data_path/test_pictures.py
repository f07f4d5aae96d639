"""Pictures and a table to a crop store: geometry, keys, bad rows, and a run that is killed."""

import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import medssl.data.pictures
from medssl.data.pictures import PicturesConfig, read_stored, scaled, store_pictures
from medssl.data.store import CropStore
from medssl.errors import FolderError, InputError

HEADER = ("image", "patient", "study", "split", "modality")
ROWS = (
    ("a.png", "Doe^Jane", "s1", "train", "CT"),
    ("b.png", "Doe^Jane", "s1", "train", "CT"),
    ("c.png", "Doe^Jane", "s2", "train", "MR"),
    ("d.jpg", "Roe^John", "s1", "val", ""),
)


@pytest.fixture
def archive(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "archive"
    folder.mkdir()
    for name, *_ in ROWS:
        Image.fromarray(rng.integers(0, 256, (30, 20), dtype=np.uint8)).save(folder / name)
    write_table(folder, ROWS)
    return folder


def write_table(folder, rows, header=HEADER):
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture
def config(archive, tmp_path):
    def make(**changes):
        values = {
            "sources": archive / "table.csv",
            "out": tmp_path / "store",
            "key_file": tmp_path / "private" / "key",
            "create_key": True,
            "size_px": 15,
            "workers": 1,
            "tracking": {"enabled": False},
        }
        return PicturesConfig.model_validate(values | changes)

    return make


def test_every_picture_is_a_plane_of_its_study(config):
    result = store_pictures(config())
    store, listed = CropStore(result.folder), list(read_stored(result.folder))
    assert [picture.row for picture in listed] == [0, 1, 2, 3]
    assert len({picture.volume_key for picture in listed}) == 4
    assert [picture.study_key == listed[0].study_key for picture in listed] == [1, 1, 0, 0]
    assert [picture.patient_key == listed[0].patient_key for picture in listed] == [1, 1, 1, 0]
    entries = [store.entry(picture.volume_key) for picture in listed]
    assert [entry.shape for entry in entries] == [(10, 15, 1)] * 4
    assert [entry.modality for entry in entries] == ["CT", "CT", "MR", "unknown"]
    assert [entry.split for entry in entries] == ["train", "train", "train", "val"]
    assert {(entry.intensity, entry.dtype) for entry in entries} == {("arbitrary", "uint8")}
    assert (result.summary["pictures"], result.summary["studies"]) == (4, 3)


def test_no_name_reaches_the_store(config, archive):
    folder = store_pictures(config()).folder
    files = [path for path in folder.rglob("*") if path.is_file() and "private" not in path.parts]
    assert len(files) > 4
    for path in files:
        content = path.read_bytes()
        assert not [word for word in (b"Doe", b"Roe", b"archive", b"a.png") if word in content]
        assert not [word for word in ("Doe", "Roe") if word in path.name]


def test_a_picture_of_the_size_is_stored_pixel_by_pixel():
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    array_IJK, affine_ras = scaled(pixels, 3)
    for row in range(2):
        for column in range(3):
            assert array_IJK[column, row, 0] == pixels[row, column]
    np.testing.assert_array_equal(affine_ras[:3, :3], np.diag([-1, -1, 1]))  # left, back


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 30))
def test_the_longest_side_has_the_size_and_the_shape_stays(rows, columns, size_px):
    pixels = np.full((rows, columns), 7, np.uint8)
    array_IJK, affine_ras = scaled(pixels, size_px)
    assert max(array_IJK.shape) == size_px
    assert array_IJK.shape[2] == 1
    shortest = size_px * min(rows, columns) / max(rows, columns)
    assert abs(min(array_IJK.shape[:2]) - max(shortest, 1)) <= 0.5
    assert (array_IJK == 7).all()
    np.testing.assert_allclose(np.linalg.norm(affine_ras[:3, :3], axis=0), 1)


def test_bad_pictures_are_rows_with_a_reason(config, archive):
    (archive / "b.png").write_bytes(b"no picture")
    (archive / "d.jpg").unlink()
    result = store_pictures(config())
    with (result.folder / "left_out.csv").open() as file:
        left_out = list(csv.DictReader(file))
    assert [row["row"] for row in left_out] == ["1", "3"]
    assert all(row["reason"] for row in left_out)
    assert [picture.row for picture in read_stored(result.folder)] == [0, 2]
    assert result.summary["left_out"] == 2


def test_without_any_good_picture_there_is_no_store(config, archive):
    write_table(archive, [("e.png", "p", "", "", "")])
    with pytest.raises(InputError, match="none of the 1 pictures"):
        store_pictures(config())


def test_studies_splits_and_modalities_have_defaults(config, archive):
    write_table(archive, [("a.png", "p"), ("b.png", "p"), ("c.png", "q")], HEADER[:2])
    result = store_pictures(config())
    listed = list(read_stored(result.folder))
    assert [picture.study_key == listed[0].study_key for picture in listed] == [1, 1, 0]
    assert {picture.split for picture in listed} == {"train"}


@pytest.mark.parametrize(
    ("rows", "header", "said"),
    [
        ([("a.png", "p")], ("image", "who"), "no column patient"),
        ([("a.png", "Doe^Jane", "x", "dev", "CT")], HEADER, "not allowed in: split"),
        ([("a.png", "", "x", "train", "CT")], HEADER, "patient"),
        ([("a.png", "p", "", "train", ""), ("b.png", "p", "", "val", "")], HEADER, "1 of 1 pat"),
    ],
)
def test_a_bad_table_is_explained_without_its_values(config, archive, rows, header, said):
    write_table(archive, rows, header)
    with pytest.raises(InputError, match=said) as caught:
        store_pictures(config())
    assert "Doe" not in str(caught.value)


def test_a_missing_table_is_explained(config, tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        store_pictures(config(sources=tmp_path / "none.csv"))


def test_the_key_must_not_lie_in_the_store(config, tmp_path):
    with pytest.raises(ValueError, match="must not lie in the store"):
        config(key_file=tmp_path / "store" / "key")


def test_an_interrupted_run_goes_on(config, monkeypatch):
    class KillError(Exception):
        pass

    def once(pixels, size_px, *, left=[2]):  # noqa: B006 - counts
        left[0] -= 1
        if left[0] < 0:
            raise KillError
        return scaled(pixels, size_px)

    monkeypatch.setattr(medssl.data.pictures, "scaled", once)
    with pytest.raises(KillError):
        store_pictures(config())
    volumes = config().out / "volumes"
    before = {path.name: path.stat().st_ino for path in volumes.iterdir()}
    assert len(before) == 2
    monkeypatch.setattr(medssl.data.pictures, "scaled", scaled)
    result = store_pictures(config())
    after = {path.name: path.stat().st_ino for path in volumes.iterdir()}
    assert len(after) == 4
    assert before.items() <= after.items()
    assert result.summary["pictures"] == 4


def test_a_finished_store_is_handed_back_and_another_table_is_not_mixed_in(config, archive):
    assert not store_pictures(config()).skipped
    assert store_pictures(config()).skipped
    write_table(archive, ROWS[:2])
    with pytest.raises(FolderError):
        store_pictures(config())
