import numpy as np
import pytest

from medssl.library.fingerprints.slice_digest import slice_digests

RNG = np.random.default_rng(0)
VOLUME = RNG.integers(-1000, 2000, (6, 7, 40)).astype(np.int16)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("intensity", ["hu", "arbitrary"])
def test_a_slice_has_its_digest_wherever_it_stands(axis, intensity):
    whole = slice_digests(VOLUME, intensity, axis)
    assert len(whole) == len(set(whole)) == VOLUME.shape[axis]
    part = np.take(VOLUME, range(2, 5), axis=axis)
    assert slice_digests(part, intensity, axis) == whole[2:5]
    assert slice_digests(np.flip(VOLUME, axis), intensity, axis) == whole[::-1]


def test_types_and_offsets_do_not_show():
    assert slice_digests(VOLUME.astype(np.float32), "hu", 2) == slice_digests(VOLUME, "hu", 2)
    shifted = (VOLUME.astype(np.int32) + 5000).astype(np.uint16)
    assert slice_digests(shifted, "arbitrary", 2) == slice_digests(VOLUME, "unknown", 2)
    assert slice_digests(VOLUME, "hu", 2) != slice_digests(VOLUME, "arbitrary", 2)


def test_one_voxel_changes_one_digest():
    other = VOLUME.copy()
    other[3, 3, 17] += 1
    pairs = zip(slice_digests(VOLUME, "hu", 2), slice_digests(other, "hu", 2), strict=True)
    assert [index for index, (one, two) in enumerate(pairs) if one != two] == [17]
