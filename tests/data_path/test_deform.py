"""Deformed views against loops over voxels; without deformation, a cut."""

import itertools
import math

import numpy as np
import pytest

from medssl.data.deform import DeformConfig, apply_deformation, draw_deformation, rotation

SIZE, REGION = (6, 5, 4), (8, 7, 6)


@pytest.fixture
def region():
    return np.random.default_rng(0).random(REGION, dtype=np.float32)


def slow(region, drawn, index):
    """One voxel: bend at the corners around it, affine, then the eight neighbours."""
    points = drawn.bend_3PPP.shape[1:]
    place = [i / (n - 1) * (p - 1) for i, n, p in zip(index, SIZE, points, strict=True)]
    bend = [interpolated(component, place) for component in drawn.bend_3PPP]
    offset = [i - (n - 1) / 2 for i, n in zip(index, SIZE, strict=True)]
    where = [
        sum(drawn.matrix_33[axis, b] * offset[b] for b in range(3))
        + drawn.centre_3[axis]
        + bend[axis]
        for axis in range(3)
    ]
    return interpolated(region, [min(max(w, 0), n - 1) for w, n in zip(where, REGION, strict=True)])


def interpolated(array, where):
    total = 0.0
    for corner in itertools.product((0, 1), repeat=3):
        weight, index = 1.0, []
        for x, up, n in zip(where, corner, array.shape, strict=True):
            low = min(math.floor(x), n - 1)
            weight *= (x - low) if up else 1 - (x - low)
            index.append(min(low + up, n - 1))
        total += weight * float(array[tuple(index)])
    return total


@pytest.mark.parametrize("seed", range(4))
def test_each_voxel_is_taken_where_the_definition_says(region, seed):
    config = DeformConfig(probability=1, rotate_deg=40, shear=0.1, elastic_spacing=3)
    drawn = draw_deformation(config, np.random.default_rng(seed), SIZE, REGION)
    view = apply_deformation(region, drawn, SIZE)
    for index in [(0, 0, 0), (5, 4, 3), (2, 3, 1), (3, 0, 2), (1, 2, 3)]:
        assert view[index] == pytest.approx(slow(region, drawn, index), abs=1e-5)


def test_without_deformation_a_view_is_a_box_of_the_region(region):
    for seed in range(20):
        drawn = draw_deformation(
            DeformConfig(probability=0), np.random.default_rng(seed), SIZE, REGION
        )
        view = apply_deformation(region, drawn, SIZE)
        windows = np.lib.stride_tricks.sliding_window_view(region, SIZE)
        assert (windows == view).all(axis=(3, 4, 5)).sum() == 1


def test_turns_are_turns():
    matrix = rotation(np.deg2rad([10.0, -20.0, 30.0]))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)
    np.testing.assert_allclose(
        rotation(np.array([0, 0, np.pi / 2])) @ [1, 0, 0], [0, 1, 0], atol=1e-12
    )


def test_the_generator_advances_equally_whatever_is_drawn():
    ends = []
    for probability in (0, 1):
        rng = np.random.default_rng(0)
        draw_deformation(DeformConfig(probability=probability), rng, SIZE, REGION)
        ends.append(rng.random())
    assert ends[0] == ends[1]
