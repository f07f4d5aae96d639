"""Laws of crop geometry, for every grid and crop size."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from medssl.data.crops import base_grid_starts, position_labels, random_crop_starts

triples = st.tuples(*[st.integers(1, 4)] * 3)
sizes = st.tuples(*[st.integers(1, 9)] * 3)
seeds = st.integers(0, 2**32 - 1)


def slow_labels(starts_N3, base_starts_K3, crop_voxels):
    rows = []
    for start in starts_N3.tolist():
        row = []
        for base in base_starts_K3.tolist():
            share = 1.0
            for s, b, size in zip(start, base, crop_voxels, strict=True):
                shared = 0
                for voxel in range(s, s + size):
                    if b <= voxel < b + size:
                        shared += 1
                share *= float(shared)
            row.append(share / float(crop_voxels[0] * crop_voxels[1] * crop_voxels[2]))
        rows.append(row)
    return np.array(rows, dtype=np.float64)


@given(triples, sizes, seeds)
def test_labels_equal_their_definition_and_sum_to_one(grid, crop, seed):
    base_K3 = base_grid_starts(grid, crop)
    starts_N3 = random_crop_starts(np.random.default_rng(seed), 3, grid, crop)
    labels_NK = position_labels(starts_N3, base_K3, crop)
    assert np.array_equal(labels_NK, slow_labels(starts_N3, base_K3, crop))
    np.testing.assert_allclose(labels_NK.sum(axis=1), 1, rtol=0, atol=1e-12)


@given(triples, sizes)
def test_base_crops_tile_the_region(grid, crop):
    covered = np.zeros([n * c for n, c in zip(grid, crop, strict=True)], dtype=int)
    for i, j, k in base_grid_starts(grid, crop).tolist():
        covered[i : i + crop[0], j : j + crop[1], k : k + crop[2]] += 1
    assert (covered == 1).all()


@given(triples, sizes)
def test_aligned_crops_are_one_hot(grid, crop):
    base_K3 = base_grid_starts(grid, crop)
    assert np.array_equal(position_labels(base_K3, base_K3, crop), np.eye(len(base_K3)))


@given(triples, sizes, seeds)
def test_random_crops_stay_inside_the_region(grid, crop, seed):
    starts_N3 = random_crop_starts(np.random.default_rng(seed), 8, grid, crop)
    ends_N3 = starts_N3 + np.array(crop)
    assert (starts_N3 >= 0).all()
    assert (ends_N3 <= np.array(grid) * np.array(crop)).all()


@given(sizes)
def test_only_neighbouring_cells_share_a_crop(crop):
    base_K3 = base_grid_starts((3, 3, 3), crop)
    centre = np.array([[s + s // 2 for s in crop]])
    shared = position_labels(centre, base_K3, crop)[0] > 0
    cells = list(itertools.product(range(3), repeat=3))
    assert all(min(cell) >= 1 for cell, meets in zip(cells, shared, strict=True) if meets)
