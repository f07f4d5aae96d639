"""A slice's source stays with the slice, however the axes of its volume are turned."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medssl.io.geometry import to_closest_ras
from medssl.io.volume import SliceSource, Volume
from tests import phantoms


def source(number, *, filled=False):
    return SliceSource(
        file_key=f"file{number}", frame_index=None, instance_key=f"i{number}", filled=filled
    )


def stack(affine, shape):
    """Return a volume whose slice k holds the number k in every voxel."""
    array = np.broadcast_to(np.arange(shape[2], dtype=np.int16), shape).copy()
    return Volume(
        array_IJK=array,
        affine_ras=affine,
        modality="CT",
        slices=tuple(map(source, range(shape[2]))),
    )


@given(
    degrees=st.tuples(*[st.floats(-180, 180)] * 3),
    shape=st.tuples(*[st.integers(2, 6)] * 3),
)
def test_sources_turn_with_their_slices(degrees, shape):
    volume = stack(phantoms.affine_ras(degrees), shape)
    turned = to_closest_ras(volume)
    assert turned.array_IJK.shape[turned.slice_axis] == len(turned.slices) == shape[2]
    for index, one in enumerate(turned.slices):
        assert set(turned.array_IJK.take(index, turned.slice_axis).ravel()) == {
            int(one.file_key[4:])
        }
    assert sorted(s.file_key for s in turned.slices) == sorted(s.file_key for s in volume.slices)


def test_a_volume_counts_its_sources():
    with pytest.raises(ValueError, match="2 slice sources for 5 slices"):
        Volume(
            array_IJK=np.zeros((3, 4, 5), np.int16),
            affine_ras=np.eye(4),
            modality="CT",
            slices=(source(0), source(1)),
        )


def test_a_volume_knows_only_the_words_for_what_was_resampled():
    with pytest.raises(ValueError, match="regularized holds words"):
        Volume(
            array_IJK=np.zeros((3, 4, 5), np.int16),
            affine_ras=np.eye(4),
            modality="CT",
            regularized=("bent",),
        )
