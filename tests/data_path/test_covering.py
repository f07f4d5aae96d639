import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from medssl.data.covering import axis_starts, covering_starts


def test_patches_cover_an_axis():
    assert axis_starts(24, 8, 4) == [0, 8, 16]
    assert axis_starts(20, 8, 4) == [0, 6, 12]
    assert axis_starts(100, 8, 3) == [0, 46, 92]
    assert axis_starts(100, 8, 1) == [46]
    assert axis_starts(5, 8, 4) == [-2]


@given(st.tuples(*[st.integers(1, 20)] * 3), st.tuples(*[st.integers(1, 9)] * 3))
def test_enough_patches_show_every_voxel(shape, size):
    seen = np.zeros(shape, bool)
    for start in covering_starts(shape, size, most=20):
        seen[tuple(slice(max(b, 0), b + s) for b, s in zip(start, size, strict=True))] = True
    assert seen.all()
