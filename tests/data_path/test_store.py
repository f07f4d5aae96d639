"""The crop store as its readers see it; reading any box is in tests/properties/test_store.py."""

import json
import multiprocessing
import pickle
import shutil

import blosc2
import numpy as np
import pyarrow.parquet
import pytest

import medssl.data.store
from medssl.data.store import CropStore, volume_file
from medssl.errors import InputError


@pytest.fixture
def store(make_store, noise):
    return make_store({"a": noise, "b": (noise[::-1], {"split": "val"})})


def test_what_is_written_is_read(store, noise):
    assert (store.read("a", (0, 0, 0), noise.shape) == noise).all()
    assert store.read("a", (1, 2, 3), (4, 5, 6)).dtype == np.int16
    assert sorted(store.keys()) == ["a", "b"]
    assert store.keys("val") == ("b",)
    assert len(store) == 2
    entry = store.entry("b")
    assert (entry.shape, entry.dtype, entry.split) == (noise.shape, "int16", "val")
    assert store.spacing_mm == (3, 3, 3)


def test_a_box_outside_the_volume_is_background(store):
    assert (store.read("a", (-50, 0, 0), (4, 4, 4)) == -1000).all()
    assert (store.read("a", (0, 0, 500), (4, 4, 4)) == -1000).all()


def test_a_store_reads_the_same_after_pickling_and_in_other_processes(store):
    expected = store.read("a", (3, 3, 3), (9, 9, 9))
    copied = pickle.loads(pickle.dumps(store))  # noqa: S301 - what was just pickled
    assert (copied.read("a", (3, 3, 3), (9, 9, 9)) == expected).all()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(store.read, ("a", (3, 3, 3), (9, 9, 9)))
    assert (found == expected).all()


def test_only_so_many_files_stay_open(make_store, noise, monkeypatch):
    monkeypatch.setattr(medssl.data.store, "MAX_OPEN", 2)
    store = make_store({key: noise + n for n, key in enumerate("abcd")})
    for key in "abcdabcd":
        assert store.read(key, (0, 0, 0), (1, 1, 1)) == noise[0, 0, 0] + "abcd".index(key)
        assert len(store._handles.opened()) <= 2


def test_an_untouched_store_verifies(store):
    store.verify()
    assert list(store.problems()) == []


def overwrite_voxel(path):
    array = blosc2.open(str(path), mode="a")
    array[0, 0, 0] = 77


def swap(path):
    shutil.copy(path.with_name("b.b2nd"), path)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_bytes(path):
    """Damage compressed blocks in the middle, past the header."""
    content = bytearray(path.read_bytes())
    for position in range(len(content) // 3, len(content) // 2):
        content[position] ^= 0xFF
    path.write_bytes(content)


def add_stranger(path):
    shutil.copy(path, path.with_name("stranger.b2nd"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (overwrite_voxel, "voxels of the stored volume a have changed"),
        (swap, "stored volume a and entries.parquet describe it differently"),
        (cut, "stored volume a (is damaged|cannot be decoded)"),
        (flip_bytes, "stored volume a (have changed|is damaged|cannot be decoded)"),
        (lambda path: path.unlink(), "stored volume a is missing"),
        (add_stranger, "holds stranger.b2nd, which entries.parquet does not list"),
    ],
)
def test_verify_names_what_changed(store, damage, message):
    damage(volume_file(store.path, "a"))
    with pytest.raises(InputError, match=message) as caught:
        CropStore(store.path).verify()
    assert "volume b " not in str(caught.value)
    assert "hint: prepare the store again" in str(caught.value)


def test_verify_sees_a_changed_index(store):
    index = json.loads((store.path / "index.json").read_text())
    (store.path / "index.json").write_text(json.dumps({**index, "digest": "0" * 64}))
    with pytest.raises(InputError, match=r"does not have the digest that index\.json records"):
        CropStore(store.path).verify()


def test_a_missing_volume_is_said_when_it_is_read(store):
    volume_file(store.path, "a").unlink()
    with pytest.raises(InputError, match="stored volume a is missing"):
        store.read("a", (0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize("start_IJK", [(0, 0, 0), (-2, 0, 0)])
def test_damaged_voxels_are_said_when_they_are_read(store, noise, start_IJK):
    flip_bytes(volume_file(store.path, "a"))
    with pytest.raises(InputError, match="the stored volume a is damaged") as caught:
        CropStore(store.path).read("a", start_IJK, noise.shape)
    assert "hint: prepare the store again" in str(caught.value)


def test_verify_says_that_no_volume_is_left(store):
    shutil.rmtree(store.path / "volumes")
    with pytest.raises(InputError, match=r"stored volume a is missing(?s:.*)volume b is missing"):
        store.verify()


def without(column):
    def rewrite(path):
        pyarrow.parquet.write_table(pyarrow.parquet.read_table(path).drop([column]), path)

    return rewrite


def without_rows(path):
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(path)[:1], path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "is missing"),
        (cut, "cannot be read"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (without("split"), "cannot be understood: split: Field required"),
        (without("volume_key"), "cannot be understood: volume_key: Field required"),
        (without_rows, r"lists 1 volumes, and index\.json says 2"),
    ],
)
def test_a_damaged_list_of_volumes_is_said(store, damage, message):
    damage(store.path / "entries.parquet")
    with pytest.raises(
        InputError, match=rf"entries\.parquet of the crop store {message}"
    ) as caught:
        CropStore(store.path)
    assert "patient-a" not in str(caught.value)
    assert "hint: prepare the store again" in str(caught.value)


def test_a_file_is_no_store(tmp_path):
    (tmp_path / "store").write_text("")
    with pytest.raises(InputError, match="a crop store is a folder, and this is none"):
        CropStore(tmp_path / "store")


def test_an_unfinished_store_is_said(store):
    (store.path / "index.json").unlink()
    with pytest.raises(InputError, match="no finished crop store here"):
        CropStore(store.path)


@pytest.mark.parametrize("more", [{}, {"a_key_of_later": 1}])
def test_another_format_is_refused(store, more):
    index = json.loads((store.path / "index.json").read_text())
    (store.path / "index.json").write_text(json.dumps({**index, **more, "format_version": 99}))
    with pytest.raises(InputError, match="has format 99, this version of medssl reads format 1"):
        CropStore(store.path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", ": Input should be a valid dictionary"),
        ('{"format_version": 1, "volumes": 2}', ": spacing_mm: Field required; digest: Field"),
        ("{", r" \(JSONDecodeError\)"),
    ],
)
def test_an_index_that_is_not_one_is_refused(store, text, message):
    (store.path / "index.json").write_text(text)
    with pytest.raises(InputError, match=rf"index\.json cannot be understood{message}"):
        CropStore(store.path)
