"""Writing: whole files, in the type they came in."""

import os

import numpy as np
import pytest
from pydantic import ValidationError

from medssl.data.store import open_volume_file, read_own_entry, volume_file
from medssl.data.store_writer import finished_entry, write_stored_volume


@pytest.fixture
def about(make_store, noise):
    """The fields that do not follow from an array."""
    entry = make_store({"example": noise[:2, :2, :2]}, folder="other").entry("example")
    derived = {"shape", "dtype", "content_digest", "volume_key"}
    return entry.model_dump(exclude=derived) | {"volume_key": "a"}


@pytest.mark.parametrize("dtype", ["int16", "uint16", "uint8", "int32", "float32"])
def test_the_voxel_type_is_kept(make_store, noise, dtype):
    array_IJK = noise.astype(dtype)
    store = make_store({"a": array_IJK})
    read_IJK = store.read("a", (0, 0, 0), array_IJK.shape)
    assert read_IJK.dtype == dtype
    assert (read_IJK == array_IJK).all()


def test_the_file_alone_tells_what_it_holds(tmp_path, about, noise):
    entry = write_stored_volume(tmp_path, noise, **about)
    assert finished_entry(tmp_path, "a") == entry
    assert finished_entry(tmp_path, "b") is None


def test_an_interrupted_write_leaves_nothing(tmp_path, about, noise, monkeypatch):
    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        write_stored_volume(tmp_path, noise, **about)
    assert finished_entry(tmp_path, "a") is None
    assert list(volume_file(tmp_path, "a").parent.iterdir()) == []


def test_an_entry_without_a_statistic_is_refused(tmp_path, about, noise):
    del about["p995"]
    with pytest.raises(ValidationError, match="p995"):
        write_stored_volume(tmp_path, noise, **about)
    assert not volume_file(tmp_path, "a").exists()


def test_blocks_are_small_and_memory_order_does_not_matter(tmp_path, about):
    array_IJK = np.asfortranarray(np.arange(70 * 40 * 33, dtype=np.int32).reshape(70, 40, 33))
    entry = write_stored_volume(tmp_path, array_IJK, **about)
    path = volume_file(tmp_path, "a")
    stored, own_entry = open_volume_file(path), read_own_entry(path)
    assert stored.blocks == (32, 32, 16)
    assert (stored[:] == array_IJK).all()
    assert own_entry == entry
