import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.library.fingerprints.area_pool import CELLS, pool_first_axis, pool_planes, together


def slow_shares(n):
    """How much of each voxel of an axis lies in each cell, in float64 voxels: (32, n)."""
    shares = np.zeros((CELLS, n))
    for cell in range(CELLS):
        for voxel in range(n):
            inside = min((cell + 1) * n / CELLS, voxel + 1) - max(cell * n / CELLS, voxel)
            shares[cell, voxel] = max(inside, 0)
    return shares


@pytest.mark.parametrize("rows", [1, 5, 31, 32, 33, 40, 64, 100])
@pytest.mark.parametrize("columns", [1, 37, 96])
@pytest.mark.parametrize("most", [2047, 65535])
def test_planes_equal_their_slow_twin(rows, columns, most):
    levels_PRC = np.random.default_rng(0).integers(0, most, (3, rows, columns), endpoint=True)
    found = pool_planes(levels_PRC.astype(np.uint16), most)
    slow = np.einsum("ar,prc,bc->pab", slow_shares(rows), levels_PRC, slow_shares(columns))
    np.testing.assert_allclose(found / CELLS**2, slow, rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200))
def test_nothing_is_lost_or_counted_twice(rows, columns):
    levels_PRC = np.random.default_rng(rows).integers(0, 65536, (2, rows, columns), dtype=np.uint16)
    found = pool_planes(levels_PRC, 65535)
    np.testing.assert_array_equal(
        found.sum(axis=(1, 2)), CELLS**2 * levels_PRC.sum(axis=(1, 2), dtype=np.int64)
    )


def test_the_largest_sums_fit():
    full = np.full((1, 65535, 40), 65535, np.uint16)
    found = pool_planes(full, 65535)
    assert found.min() == found.max() == 65535 * 65535 * 40


@pytest.mark.parametrize("planes", [1, 31, 32, 45])
def test_the_first_axis_equals_its_slow_twin(planes):
    sums_PRC = np.random.default_rng(1).integers(0, 2**40, (planes, 3, 4))
    found = pool_first_axis(sums_PRC) / CELLS
    slow = np.einsum("ap,prc->arc", slow_shares(planes), sums_PRC)
    np.testing.assert_allclose(found, slow, rtol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1, 1), (300, 512, 512), (7, 5000, 5000), (1000, 2, 2)])
def test_planes_worked_on_together_are_all_planes_once(shape):
    array = np.broadcast_to(np.uint16(0), shape)
    lots = list(together(array))
    assert [p for lot in lots for p in range(lot.start, lot.stop)] == list(range(shape[0]))
    assert max(lot.stop - lot.start for lot in lots) <= 255
