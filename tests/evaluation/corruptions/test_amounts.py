"""How much each corruption does, against its definition in loops or by hand."""

import math

import numpy as np
import pytest

from medssl.config.load import validate
from medssl.errors import ConfigError
from medssl.evaluation.corruptions.intensity_scale import IntensityScale
from medssl.evaluation.corruptions.intensity_shift import IntensityShift
from medssl.evaluation.corruptions.missing_slices import MissingSlices
from medssl.evaluation.corruptions.noise import Noise
from medssl.evaluation.corruptions.resolution import Resolution
from medssl.evaluation.corruptions.rotation import Rotation
from medssl.evaluation.corruptions.thick_slices import ThickSlices
from medssl.evaluation.exam import Exam
from medssl.evaluation.robustness import RobustnessConfig
from medssl.io.volume import Volume
from tests.finetuned import affine

RNG = np.random.default_rng(0)


def scan(array, modality="MR", spacing_mm=(1.0, 1.0, 1.0), axes=(1, 1, 1)):
    return Exam(
        Volume(array_IJK=array, affine_ras=affine(spacing_mm, axes), modality=modality),
        (array > array.mean()).astype(np.uint8),
    )


def ramp(shape=(9, 8, 7)):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def test_a_shift_is_of_hounsfield_units_or_of_the_spread():
    shift = IntensityShift.Config().build()
    ct = shift.apply(scan(ramp(), "CT"), 25.0, RNG).volume.array_IJK
    np.testing.assert_allclose(ct, ramp() + 25)
    low, high = np.percentile(ramp(), (0.5, 99.5))
    mr = shift.apply(scan(ramp()), 0.1, RNG).volume.array_IJK
    np.testing.assert_allclose(mr, ramp() + 0.1 * (high - low), rtol=1e-5)


def test_a_scale_keeps_water_and_stops_at_the_limits_of_the_type():
    image = np.full((3, 3, 3), 30000, np.int16)
    image[0] = 0
    found = IntensityScale.Config().build().apply(scan(image, "CT"), 0.2, RNG).volume.array_IJK
    assert found[0].max() == 0
    assert found[1].min() == 32767


def test_noise_is_gaussian_in_ct_and_rician_in_magnitudes():
    noise, shape = Noise.Config().build(), (40, 40, 40)
    ct = scan(np.zeros(shape, np.float32), "CT")
    found = noise.apply(ct, 25.0, np.random.default_rng(1)).volume.array_IJK
    assert found.std() == pytest.approx(25, rel=0.02)
    assert found.mean() == pytest.approx(0, abs=0.5)
    background = np.zeros(shape, np.float32)
    background[:4] = 1000  # the spread is 1000
    mr = noise.apply(scan(background), 0.05, np.random.default_rng(1)).volume.array_IJK[4:]
    assert mr.min() >= 0
    assert mr.mean() == pytest.approx(50 * math.sqrt(math.pi / 2), rel=0.02)  # Rayleigh


def test_missing_slices_are_interpolated_and_the_outermost_stay():
    image = ramp() ** 2
    found = MissingSlices.Config().build().apply(scan(image), 0.5, np.random.default_rng(3))
    array = found.volume.array_IJK
    changed = [k for k in range(7) if (array[..., k] != image[..., k]).any()]
    assert len(changed) == round(0.5 * 7)
    assert not {0, 6} & set(changed)
    there = [k for k in range(7) if k not in changed]
    for k in changed:
        below, above = max(n for n in there if n < k), min(n for n in there if n > k)
        twin = image[..., below] + (image[..., above] - image[..., below]) * (k - below) / (
            above - below
        )
        np.testing.assert_allclose(array[..., k], twin, rtol=1e-5)


def test_more_missing_slices_are_the_same_ones_and_more():
    def lost(share):
        found = (
            MissingSlices.Config()
            .build()
            .apply(scan(ramp((4, 4, 20)) ** 2), share, np.random.default_rng(5))
        )
        array = found.volume.array_IJK
        return {k for k in range(20) if (array[..., k] != ramp((4, 4, 20))[..., k] ** 2).any()}

    assert lost(0.2) < lost(0.5)


@pytest.mark.parametrize(
    ("corruption", "coarse", "axes"),
    [(Resolution, (3.0, 3.0, 2.0), (0, 1)), (ThickSlices, (1.0, 1.0, 6.0), (2,))],
)
def test_resolution_is_lost_along_its_axes_alone(corruption, coarse, axes):
    severity = max(coarse)
    waves = np.indices((24, 24, 24)).astype(np.float32)
    for axis in range(3):
        wave = np.cos(np.pi * waves[axis])  # the finest there is
        seen = scan(wave, spacing_mm=(1.0, 1.0, 2.0))
        found = corruption.Config().build().apply(seen, severity, RNG).volume.array_IJK
        inner = found[6:-6, 6:-6, 6:-6]
        assert np.abs(inner).max() < 0.2 if axis in axes else np.abs(inner).max() > 0.95


def test_a_coarse_scan_stays_where_it_lies():
    centre = np.zeros((21, 21, 21), np.float32)
    centre[10, 10, 10] = 100
    found = Resolution.Config().build().apply(scan(centre), 3.0, RNG).volume.array_IJK
    places = np.indices(found.shape).reshape(3, -1)
    np.testing.assert_allclose((places * found.ravel()).sum(axis=1) / found.sum(), 10, atol=0.05)


def test_what_is_coarse_already_stays_as_it_is():
    seen = scan(ramp(), spacing_mm=(4.0, 4.0, 9.0))
    assert Resolution.Config().build().apply(seen, 3.0, RNG) is seen
    assert ThickSlices.Config().build().apply(seen, 8.0, RNG) is seen


@pytest.mark.parametrize(
    ("around", "start_mm", "end_mm"),
    [
        ("head_feet", (8, 0, 0), (0, 8, 0)),  # right to front
        ("left_right", (0, 8, 0), (0, 0, 8)),  # front to head
        ("front_back", (0, 0, 8), (-8, 0, 0)),  # head to the patient's left shoulder
    ],
)
@pytest.mark.parametrize("axes", [(1, 1, 1), (-1, -1, 1)])
def test_the_body_turns_in_millimetres_whatever_the_grid(around, start_mm, end_mm, axes):
    spacing, shape = np.array([1.0, 2.0, 4.0]), np.array([25, 13, 7])
    middle = (shape - 1) / 2

    def index(place_mm):
        return tuple(np.rint(middle + np.multiply(place_mm, axes) / spacing).astype(int))

    image = np.zeros(shape, np.float32)
    image[index(start_mm)] = 100
    seen = scan(image, spacing_mm=tuple(spacing), axes=axes)
    turned = Rotation.Config(around=around).build().apply(seen, 90.0, RNG)
    assert np.unravel_index(turned.volume.array_IJK.argmax(), shape) == index(end_mm)
    assert turned.label_IJK[index(end_mm)] == 1


def test_turning_there_and_back_is_almost_nothing():
    ball = np.linalg.norm(np.indices((31, 31, 31)) - 15, axis=0)
    seen = scan(np.clip(12 - ball, 0, 5).astype(np.float32) * 20)
    there = Rotation.Config().build()
    back = there.apply(there.apply(seen, 20.0, RNG), -20.0, RNG)
    both = np.count_nonzero(back.label_IJK & seen.label_IJK)
    assert 2 * both / (back.label_IJK.sum() + seen.label_IJK.sum()) > 0.97


def test_a_wrong_severity_is_explained():
    tree = {"corruptions": [{"name": "missing_slices", "severities": [2]}]}
    with pytest.raises(ConfigError, match="severities"):
        validate(RobustnessConfig, tree, where="test")
