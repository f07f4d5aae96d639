"""Made-up patients with known copies and known look-alikes, from real volumes; all of it seeded.

A patient is a real volume, strongly deformed: other patients of the same base share its anatomy,
which makes them harder to tell apart than any two people. Every alteration takes a volume and a
generator and returns what a reader would have made of such a file.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medssl.io.volume import Volume

Float64Array = NDArray[np.float64]
Alteration = Callable[[Volume, np.random.Generator], Volume]

MOST_VOXELS: Final = 500_000
"""Bases with more are resampled to this many: the suite has thousands of volumes."""
_BLUR_PER_STEP: Final = 2.3548
"""Full width at half maximum of a Gaussian, in standard deviations."""
_HU_LOWEST: Final = -1024
_SOFT_HU: Final = (-80, 160)


def read_base(path: Path) -> Volume:
    """Return a NIfTI file on its closest RAS grid; CT in HU where it has negative values."""
    image: Any = nib.as_closest_canonical(nib.load(path))
    array = np.asarray(image.dataobj, dtype=np.float64)
    is_hu = array.min() < -_LEAST_OF_CT
    if not is_hu:
        array *= 1000 / np.percentile(array, 99.9)
    volume = Volume(
        array_IJK=np.rint(np.clip(array, _HU_LOWEST, 32767)).astype(np.int16),
        affine_ras=np.asarray(image.affine, dtype=np.float64),
        modality="CT" if is_hu else "MR",
        intensity="hu" if is_hu else "arbitrary",
    )
    spacing = np.array(volume.spacing_mm)
    to_mm = spacing.min()
    while np.prod(np.array(volume.shape) * spacing / np.maximum(spacing, to_mm)) > MOST_VOXELS:
        to_mm *= 1.02
    i, j, k = np.maximum(1, to_mm / spacing).tolist()
    return resampled(volume, (i, j, k)) if max(i, j, k) > 1 else volume


_LEAST_OF_CT: Final = 200


def resampled(volume: Volume, factors: tuple[float, float, float]) -> Volume:
    """Return the same field of view with voxels ``factors`` times as large, averaged over them."""
    array = volume.array_IJK.astype(np.float64)
    blur = [np.sqrt(max(factor**2 - 1, 0)) / _BLUR_PER_STEP for factor in factors]
    array = ndimage.gaussian_filter(array, blur)
    inverse = [1 / factor for factor in factors]
    array = ndimage.zoom(array, inverse, order=1, grid_mode=True, mode="nearest")
    step = np.array(volume.shape) / np.array(array.shape)
    old_from_new = np.diag([*step, 1.0])
    old_from_new[:3, 3] = (step - 1) / 2
    return replace(_with(volume, array), affine_ras=volume.affine_ras @ old_from_new)


def deformed(volume: Volume, by_mm: float, smooth_mm: float, rng: np.random.Generator) -> Volume:
    """Return smoothly moved tissue: ``by_mm`` on average (root mean square)."""
    sigma = [smooth_mm / mm for mm in volume.spacing_mm]
    field = [
        ndimage.gaussian_filter(rng.normal(size=volume.shape), sigma, mode="wrap") for _ in range(3)
    ]
    length = np.sqrt(np.mean(np.sum(np.square(field), axis=0)))
    grid = np.indices(volume.shape).astype(np.float64)
    moved = [
        axis + part / length * by_mm / mm
        for axis, part, mm in zip(grid, field, volume.spacing_mm, strict=True)
    ]
    array = ndimage.map_coordinates(
        volume.array_IJK.astype(np.float64), moved, order=1, mode="nearest"
    )
    return _with(volume, array)


def patient_of(base: Volume, rng: np.random.Generator) -> Volume:
    """Return another person: moved by 12 mm on average, other soft tissue, other noise."""
    other = deformed(base, by_mm=12.0, smooth_mm=30.0, rng=rng)
    return _noisy(_tissue_changed(other, 0.3, rng), 0.02, rng)


def sharp_kernel(volume: Volume, rng: np.random.Generator) -> Volume:
    """Return edges enhanced, and more noise."""
    array = volume.array_IJK.astype(np.float64)
    return _noisy(_with(volume, 1.8 * array - 0.8 * ndimage.gaussian_filter(array, 1)), 0.05, rng)


def smooth_kernel(volume: Volume, rng: np.random.Generator) -> Volume:
    """Return a smooth reconstruction, with a little noise of its own."""
    array = ndimage.gaussian_filter(volume.array_IJK.astype(np.float64), 0.8)
    return _noisy(_with(volume, array), 0.01, rng)


def slab(count: int) -> Alteration:
    """Return what makes slices ``count`` times as thick by averaging; the rest at the end goes."""

    def thicken(volume: Volume, rng: np.random.Generator) -> Volume:
        del rng
        slices = volume.shape[2] // count
        array = volume.array_IJK[:, :, : slices * count].astype(np.float64)
        array = array.reshape(*volume.shape[:2], slices, count).mean(axis=3)
        old_from_new = np.diag([1.0, 1.0, count, 1.0])
        old_from_new[2, 3] = (count - 1) / 2
        return replace(_with(volume, array), affine_ras=volume.affine_ras @ old_from_new)

    return thicken


def window_8_bit(volume: Volume, rng: np.random.Generator) -> Volume:
    """Return eight bits of a clinical window; of MR, of its brightest 99.5 %."""
    array = volume.array_IJK.astype(np.float64)
    if volume.intensity == "hu":
        centre, width = ((40, 400), (50, 250), (400, 1800), (-500, 1500))[rng.integers(4)]
        low, high = centre - width / 2, centre + width / 2
    else:
        low, high = 0.0, float(np.percentile(array, 99.5))
    array = np.clip((array - low) / (high - low), 0, 1) * 255
    return replace(volume, array_IJK=np.rint(array).astype(np.uint8), intensity="arbitrary")


def z_crop(volume: Volume, rng: np.random.Generator) -> Volume:
    """Return 70 % of the slices."""
    count = volume.shape[2]
    kept = max(8, round(0.7 * count))
    return sliced(volume, int(rng.integers(0, count - kept + 1)), kept)


def z_shift(volume: Volume, rng: np.random.Generator) -> Volume:
    """Return a range that begins 15 % later and ends 15 % later; beyond it lies other noise."""
    count = volume.shape[2]
    by = max(2, round(0.15 * count))
    part = sliced(volume, by, count - by)
    more = deformed(sliced(volume, 0, by), 10.0, 20.0, rng).array_IJK[:, :, ::-1]
    return replace(part, array_IJK=np.concatenate([part.array_IJK, more], axis=2))


def sliced(volume: Volume, start: int, count: int) -> Volume:
    """Return ``count`` slices from ``start`` on, where they lie in the body."""
    affine_ras = volume.affine_ras.copy()
    affine_ras[:3, 3] += volume.affine_ras[:3, 2] * start
    array = np.ascontiguousarray(volume.array_IJK[:, :, start : start + count])
    return replace(volume, array_IJK=array, affine_ras=affine_ras)


def other_phase(volume: Volume, rng: np.random.Generator) -> Volume:
    """Return the same person minutes later: some tissue enhanced, the breath held anew."""
    moved = deformed(volume, by_mm=0.7, smooth_mm=30.0, rng=rng)
    return _noisy(_tissue_changed(moved, 0.5, rng), 0.02, rng)


def follow_up(by_mm: float) -> Alteration:
    """Return what makes another day of the same person: moved by ``by_mm``, other noise."""
    return lambda volume, rng: _noisy(deformed(volume, by_mm, 20.0, rng), 0.02, rng)


COPIES: Final[Mapping[str, Alteration]] = {
    "byte_copy": lambda volume, _: volume,
    "re_export": lambda volume, _: replace(
        volume,
        array_IJK=volume.array_IJK[::-1].astype(np.float32),
        affine_ras=volume.affine_ras
        @ np.array([[-1, 0, 0, volume.shape[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
    ),
    "header_lie": lambda volume, _: replace(volume, affine_ras=np.eye(4)),
    "sharp_kernel": sharp_kernel,
    "smooth_kernel": smooth_kernel,
    "slab_2": slab(2),
    "slab_3": slab(3),
    "resample_0.7": lambda volume, _: resampled(volume, (0.7, 0.7, 0.7)),
    "resample_1.4": lambda volume, _: resampled(volume, (1.4, 1.4, 1.4)),
    "window_8_bit": window_8_bit,
    "z_crop": z_crop,
    "z_shift": z_shift,
}
"""What becomes of one scan on its way through archives; ``z_shift`` has slices of its own."""

LOOK_ALIKES: Final[Mapping[str, Alteration]] = {
    "follow_up_1.5mm": follow_up(1.5),
    "follow_up_3mm": follow_up(3.0),
    "other_phase": other_phase,
}
"""Scans of one person that must never be taken for copies."""


def _with(volume: Volume, array: Float64Array) -> Volume:
    return replace(volume, array_IJK=np.rint(np.clip(array, _HU_LOWEST, 32767)).astype(np.int16))


def _noisy(volume: Volume, share: float, rng: np.random.Generator) -> Volume:
    """Add noise of ``share`` of the spread of what is not air, where it is not air."""
    array = volume.array_IJK.astype(np.float64)
    body = _body(volume)
    spread = array[body].std() if body.any() else 1.0
    return _with(volume, array + rng.normal(0, share * spread, array.shape) * (0.1 + 0.9 * body))


def _tissue_changed(volume: Volume, share: float, rng: np.random.Generator) -> Volume:
    """Brighten soft tissue in blobs of about 15 mm: 100 HU at most, or ``share`` of MR's spread."""
    array = volume.array_IJK.astype(np.float64)
    sigma = [8 / mm for mm in volume.spacing_mm]
    blobs = ndimage.gaussian_filter(rng.normal(size=volume.shape), sigma, mode="wrap")
    blobs = np.clip(blobs / blobs.std() - 0.5, 0, 1.5) / 1.5
    body = _body(volume)
    if volume.intensity == "hu":
        tissue, most = body & (array > _SOFT_HU[0]) & (array < _SOFT_HU[1]), 200 * share
    else:
        tissue, most = body, 2 * share * array[body].std() if body.any() else 0.0
    softly = ndimage.gaussian_filter(tissue.astype(np.float64), 0.7)
    return _with(volume, array + most * blobs * softly)


def _body(volume: Volume) -> NDArray[np.bool_]:
    array = volume.array_IJK
    above = -300.0 if volume.intensity == "hu" else 0.15 * float(np.percentile(array, 99.9))
    return np.asarray(array > above)
