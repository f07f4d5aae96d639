import numpy as np
import pytest

from medssl.curation.slices import VolumeSlices, shrink, slice_positions_mm
from tests.curation.libraries import blobs


def slow_shrink(plane, cells):
    height, width = plane.shape
    rows, columns = min(cells, height), min(cells, width)
    out = np.zeros((rows, columns), np.int64)
    for a in range(rows):
        for b in range(columns):
            total = 0
            for i in range(height):
                down = max(0, min((i + 1) * rows, (a + 1) * height) - max(i * rows, a * height))
                for j in range(width):
                    right = min((j + 1) * columns, (b + 1) * width) - max(j * columns, b * width)
                    total += int(plane[i, j]) * down * max(0, right)
            out[a, b] = total // plane.size
    return out


@pytest.mark.parametrize("shape", [(5, 7), (8, 8), (13, 3), (3, 20), (17, 9), (1, 1)])
def test_cells_are_means_by_area(shape):
    plane = np.random.default_rng(0).integers(0, 65536, shape).astype(np.uint16)
    np.testing.assert_array_equal(shrink(plane, 8), slow_shrink(plane, 8))


def test_slices_lie_where_the_affine_says():
    turned = np.array([[0, 0, 2.5, -7], [0.6, 0.8, 0, 3], [-0.8, 0.6, 0, 5], [0, 0, 0, 1]])
    np.testing.assert_allclose(slice_positions_mm(turned, 2, 4), [-7, -4.5, -2, 0.5])
    direction = turned[:3, 0]
    expected = [direction @ (turned @ [i, 0, 0, 1])[:3] for i in range(3)]
    np.testing.assert_allclose(slice_positions_mm(turned, 0, 3), expected)


def test_slices_of_a_volume_are_those_of_its_slice_axis():
    volume = blobs(1)
    slices = VolumeSlices.of(volume)
    assert len(slices) == volume.shape[2] == len(slices.dct256) == len(slices.foreground)
    assert slices.levels.shape == (volume.shape[2], volume.shape[0], volume.shape[1])
    assert slices.pooled(8).shape == (len(slices), 8, 8)
    np.testing.assert_allclose(np.diff(slices.positions_mm), 3.0)
