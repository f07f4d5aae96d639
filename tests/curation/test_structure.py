import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medssl.curation import structure as s

EVERYWHERE = np.ones((24, 22, 20), dtype=bool)


def texture(seed, shape=(24, 22, 20), smooth=1.5):
    noise = np.random.default_rng(seed).normal(size=shape)
    array = ndimage.gaussian_filter(noise, smooth)
    return (array / array.std()).astype(np.float32)


def slow_band(array):
    """Full Gaussian sums in float64, voxel by voxel."""
    out = []
    for sigma in s.BAND_VOXELS:
        radius = int(4 * sigma + 0.5)
        kernel = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
        kernel /= kernel.sum()
        smooth = array.astype(np.float64)
        for axis in range(3):
            width = [(radius, radius) if x == axis else (0, 0) for x in range(3)]
            padded = np.pad(smooth, width, "edge")
            smooth = sum(
                w * np.take(padded, range(k, k + array.shape[axis]), axis=axis)
                for k, w in enumerate(kernel)
            )
        out.append(smooth)
    return out[0] - out[1]


def slow_motion(a, b, is_body):
    """Loops over blocks, over their voxels, and over neighbouring blocks."""
    spread = b[is_body].std() + 1e-12
    a, b = a.astype(np.float64) / spread, b.astype(np.float64) / spread
    slopes = np.gradient((a + b) / 2)
    side = [min(s.BLOCK_VOXELS, max(2, n // 3)) for n in a.shape]
    count = [n // x for n, x in zip(a.shape, side, strict=True)]
    blocks = list(np.ndindex(*count))
    normal, pull, share = {}, {}, {}
    for block in blocks:
        normal[block], pull[block], share[block] = np.zeros((3, 3)), np.zeros(3), 0.0
        voxels = list(np.ndindex(*side))
        for inner in voxels:
            at = tuple(x * n + y for x, n, y in zip(block, side, inner, strict=True))
            slope = np.array([part[at] for part in slopes]) * is_body[at]
            normal[block] += np.outer(slope, slope) / len(voxels)
            pull[block] += slope * (b[at] - a[at]) / len(voxels)
            share[block] += is_body[at] / len(voxels)
    ridge = 0.02 * np.mean([np.trace(x) for x in normal.values()]) / 3
    motion = {x: -np.linalg.solve(normal[x] + ridge * np.eye(3), pull[x]) for x in blocks}
    weight = {}
    for block in blocks:
        least = max(np.linalg.eigvalsh(normal[block])[0], 0)
        weight[block] = least / (least + ridge) if share[block] > 0.5 else 0.0
    agreed = known = 0.0
    for block in blocks:
        for axis in range(3):
            other = tuple(x + (k == axis) for k, x in enumerate(block))
            if other in motion:
                both = weight[block] * weight[other]
                agreed += both * float(motion[block] @ motion[other])
                known += both
    return np.sqrt(max(agreed / known, 0))


def test_the_band_equals_its_slow_twin():
    array = texture(0)
    assert s.band_pass(array) == pytest.approx(slow_band(array), abs=1e-5)


def test_the_correlation_is_that_of_the_body():
    a, b = texture(0), texture(1)
    body = texture(2) > 0
    assert s.correlation(a, b, body) == pytest.approx(np.corrcoef(a[body], b[body])[0, 1])
    assert s.correlation(a, 3 * a + 7, body) == pytest.approx(1.0)
    assert np.isnan(s.correlation(a, np.zeros_like(a), body))


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_the_motion_equals_its_slow_twin(shift):
    a = texture(3)
    b = ndimage.shift(a, (shift, 0, shift), order=3, mode="nearest").astype(np.float32)
    body = texture(4, smooth=3) > -0.5
    found = s.motion_voxels(a, b, body)
    assert found == pytest.approx(slow_motion(a, b, body), rel=1e-3, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.integers(0, 99))
def test_a_shift_is_measured(di, dk, seed):
    a = texture(seed, smooth=2.5)
    b = ndimage.shift(a, (di, 0, dk), order=3, mode="nearest").astype(np.float32)
    length = np.hypot(di, dk)
    assert s.motion_voxels(a, b, EVERYWHERE) == pytest.approx(length, abs=0.1 + 0.25 * length)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99))
def test_noise_is_no_motion(seed):
    a = texture(seed, smooth=1.5)
    noise = np.random.default_rng(seed).normal(0, 0.1, a.shape)
    found = s.motion_voxels(a, (a + noise).astype(np.float32), EVERYWHERE)
    assert found < 0.05


def test_motion_is_unknown_where_nothing_tells():
    flat = np.zeros((24, 22, 20), np.float32)
    assert np.isnan(s.motion_voxels(flat, flat, EVERYWHERE))
    assert np.isnan(s.motion_voxels(texture(0), texture(0), ~EVERYWHERE))


@pytest.mark.parametrize("sigma", [0.8, (0, 0, 1), (1.2, 1.2, 0.5)])
@pytest.mark.parametrize("swap", [False, True])
def test_another_kernel_is_filtered_away_and_moves_nothing(sigma, swap):
    a = s.band_pass(texture(5))
    b = s.band_pass(ndimage.gaussian_filter(texture(5), sigma))
    a, b = (b, a) if swap else (a, b)
    plain = s.correlation(a, b, EVERYWHERE)
    alike = s.filtered_alike(a, b, EVERYWHERE)
    assert s.correlation(*alike, EVERYWHERE) > max(0.995, plain)
    assert s.motion_voxels(*alike, EVERYWHERE) < 0.05
    unchanged = alike[0] is a or alike[1] is b
    assert unchanged


def test_intensities_are_those_of_the_other():
    hu = texture(6) * 200
    window = np.clip((hu + 100) / 250, 0, 1) * 255
    seen = s.through_intensities(hu, window, EVERYWHERE)
    assert np.abs(seen - window).max() < 3
    assert s.through_intensities(window * 0, hu, EVERYWHERE) == pytest.approx(0)
    assert s.through_intensities(hu, window, ~EVERYWHERE) == pytest.approx(hu)
