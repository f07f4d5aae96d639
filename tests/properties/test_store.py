"""Reading a box equals cutting it from the padded volume, for every box and shape."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from medssl.data.store import CropStore
from medssl.data.store_writer import write_index, write_stored_volume

ABOUT = {
    "volume_key": "a",
    "patient_key": "p",
    "split": "train",
    "modality": "MR",
    "intensity": "arbitrary",
    "spacing_mm": (1, 1, 1),
    "affine_ras": np.eye(4).tolist(),
    "background": 7.0,
    "foreground_above": 9.0,
    "p005": 7.0,
    "p995": 90.0,
}
starts = st.tuples(*[st.integers(-60, 90)] * 3)
sizes = st.tuples(*[st.integers(1, 40)] * 3)


def write(folder, array_IJK):
    write_index(folder, [write_stored_volume(folder, array_IJK, **ABOUT)], (1, 1, 1))
    return CropStore(folder)


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    array_IJK = np.random.default_rng(0).integers(0, 2**16, (75, 34, 66)).astype(np.uint16)
    return array_IJK, write(tmp_path_factory.mktemp("store"), array_IJK)


@settings(deadline=None)
@given(starts, sizes)
def test_any_box_is_the_padded_volume(volume, start, size):
    array_IJK, store = volume
    padded_IJK = np.full([n + 2 * 130 for n in array_IJK.shape], 7, dtype=np.uint16)
    padded_IJK[130:-130, 130:-130, 130:-130] = array_IJK
    box = tuple(slice(s + 130, s + 130 + n) for s, n in zip(start, size, strict=True))
    read_IJK = store.read("a", start, size)
    assert read_IJK.dtype == np.uint16
    assert np.array_equal(read_IJK, padded_IJK[box])


@settings(max_examples=25, deadline=None)
@given(
    arrays.arrays(
        dtype=st.sampled_from([np.int16, np.uint16, np.uint8, np.int32, np.float32]),
        shape=arrays.array_shapes(min_dims=3, max_dims=3, max_side=40),
    )
)
def test_any_volume_survives_the_store(array_IJK):
    with tempfile.TemporaryDirectory() as folder:
        store = write(Path(folder), array_IJK)
        store.verify()
        read_IJK = store.read("a", (0, 0, 0), array_IJK.shape)
        assert read_IJK.tobytes() == array_IJK.tobytes()
