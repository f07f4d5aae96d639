"""Resampling keeps every millimetre where it was."""

import math

import numpy as np
import pytest
from scipy import ndimage

from medssl.data.resample import resample, resampled_grid, smoothing_sigma


def oblique_affine(spacing_mm, origin_mm=(-40.0, 25.0, 310.0)):
    """A grid turned by 20 degrees about one axis and 10 about another."""
    a, b = math.radians(20), math.radians(10)
    turn_z = np.array([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]])
    turn_x = np.array([[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = turn_z @ turn_x @ np.diag(spacing_mm)
    affine[:3, 3] = origin_mm
    return affine


def at_voxels(shape, affine, function):
    """Evaluate a function of x, y, z in mm at every voxel centre."""
    index = np.vstack([np.indices(shape).reshape(3, -1), np.ones(math.prod(shape))])
    x, y, z = (affine @ index)[:3]
    return function(x, y, z).reshape(shape)


def plane(x, y, z):
    return 300 + 9 * x - 7 * y + 5 * z


@pytest.mark.parametrize(
    "spacing_mm", [(1.5, 1.5, 1.5), (3, 3, 3), (0.5, 0.7, 2), (0.8, 0.8, 2.5), (1.1, 0.8, 7)]
)
@pytest.mark.parametrize("dtype", ["int16", "int32", "float32"])
def test_values_stay_at_their_position_in_mm(spacing_mm, dtype):
    affine = oblique_affine((0.8, 0.8, 2.5))
    array_IJK = np.rint(at_voxels((50, 40, 24), affine, plane)).astype(dtype)
    new_IJK, new_affine = resample(array_IJK, affine, spacing_mm)
    assert new_IJK.dtype == dtype
    np.testing.assert_allclose(np.linalg.norm(new_affine[:3, :3], axis=0), spacing_mm)
    expected_IJK = at_voxels(new_IJK.shape, new_affine, plane)
    # near the border the edge voxel stands for what lies beyond
    inside = tuple(slice(math.ceil(n / 4), n - math.ceil(n / 4)) for n in new_IJK.shape)
    assert new_IJK[inside].size
    np.testing.assert_allclose(new_IJK[inside], expected_IJK[inside], atol=1.01)


def test_the_new_grid_covers_the_same_box_about_the_same_centre():
    affine = oblique_affine((0.9, 1.0, 4.0))
    old_shape = (61, 40, 13)
    new_IJK, new_affine = resample(np.zeros(old_shape, np.int16), affine, (2.0, 1.5, 3.0))
    old_mm = np.array(old_shape) * (0.9, 1.0, 4.0)
    new_mm = np.array(new_IJK.shape) * (2.0, 1.5, 3.0)
    assert (np.abs(old_mm - new_mm) <= np.array([2.0, 1.5, 3.0]) / 2).all()
    old_centre, new_centre = (
        a @ [*((np.array(shape) - 1) / 2), 1]
        for a, shape in ((affine, old_shape), (new_affine, new_IJK.shape))
    )
    np.testing.assert_allclose(new_centre, old_centre, atol=1e-9)


def test_its_own_spacing_changes_nothing(noise):
    affine = np.diag([0.7, 0.7, 2.0, 1.0])
    new_IJK, new_affine = resample(noise, affine, (0.7, 0.7, 2.0))
    assert (new_IJK == noise).all()
    assert (new_affine == affine).all()


def test_a_volume_thinner_than_one_new_voxel_keeps_one():
    new_IJK, _ = resample(np.full((4, 4, 1), 9, np.uint8), np.eye(4), (9.0, 2.0, 9.0))
    assert new_IJK.tolist() == [[[9], [9]]]


def test_detail_the_new_grid_cannot_hold_is_smoothed_away():
    """Stripes of 2 voxels, taken every 6: without smoothing they become false stripes."""
    stripes_IJK = np.where(np.arange(240) % 4 < 2, 1000, 0).astype(np.int16)
    stripes_IJK = np.broadcast_to(stripes_IJK[:, None, None], (240, 6, 6))
    affine = np.eye(4)
    new_IJK, _ = resample(stripes_IJK, affine, (6.0, 1.0, 1.0))
    (shape, zoom, offset) = resampled_grid(stripes_IJK.shape, affine, (6.0, 1.0, 1.0))
    naive_IJK = ndimage.affine_transform(stripes_IJK, zoom, offset, output_shape=shape, order=1)
    assert naive_IJK[2:-2].std() > 200
    assert new_IJK[2:-2].std() < 20
    assert abs(new_IJK[2:-2].mean() - 500) < 10


@pytest.mark.parametrize("zoom", [1.2, 2.0, 3.75, 10.0])
def test_smoothing_makes_the_old_point_spread_as_wide_as_the_new(zoom):
    """Slow twin: convolve the old spread with the kernel, and measure its width at half height."""
    sigma_of_width = 1 / (2 * math.sqrt(2 * math.log(2)))
    x = np.linspace(-40, 40, 80_001)
    old = np.exp(-(x**2) / (2 * sigma_of_width**2))
    kernel = np.exp(-(x**2) / (2 * smoothing_sigma(zoom) ** 2))
    spectrum = np.fft.rfft(old) * np.fft.rfft(kernel)
    new = np.fft.fftshift(np.fft.irfft(spectrum, len(x)))
    width = x[new > new.max() / 2]
    assert width[-1] - width[0] == pytest.approx(zoom, abs=0.01)


def test_a_finer_grid_needs_no_smoothing():
    assert smoothing_sigma(0.5) == smoothing_sigma(1.0) == 0


def test_rounding_never_leaves_the_type():
    bright_IJK = np.full((9, 9, 9), 255, np.uint8)
    assert (resample(bright_IJK, np.eye(4), (0.7, 1.3, 2.9))[0] == 255).all()
