"""Do two arrays show the same structure, at the same place? One number for each question.

Both are asked of band-passed arrays: the slow part (outline of the body, coil shading) and the
noise are left out, what remains is structure that two bodies do not share.

*The same structure*: a correlation, after one array was filtered to look like the other. Another
reconstruction kernel, slice thickness or spacing is a filter, so that copies come close to 1
however they were reconstructed, and noise takes little away.

*At the same place*: how far structure has moved, block by block, by optical flow (B. Lucas and
T. Kanade, An iterative image registration technique, 1981). A breath, another day or another phase
moves neighbouring blocks alike; noise moves each block elsewhere, so that what neighbours agree on
is motion alone. It tells a scan repeated after a minute from one reconstructed twice, which no
correlation does: tissue that has moved by half a voxel still correlates with 0.99.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Float32Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

BAND_VOXELS: Final = (1.0, 4.0)
"""Standard deviations of the two Gaussians whose difference is compared."""
KERNEL_VOXELS: Final = ((0.8, 0.8, 0.8), (1.6, 1.6, 1.6), (1, 0, 0), (0, 1, 0), (0, 0, 1))
"""Gaussians of which, with the array itself, a filter is composed; axis by axis for slabs."""
BLOCK_VOXELS: Final = 6
"""Sides of the blocks that are asked for their motion."""
MIN_BODY_VOXELS: Final = 200
MIN_NEIGHBOURS: Final = 5.0
"""Pairs of blocks, weighted by how well they know, without which motion is unknown."""
_RIDGE: Final = 0.02
_TINY: Final = 1e-12
_INTENSITY_STEPS: Final = 256


def band_pass(array_IJK: Float32Array) -> Float32Array:
    """Return G(1) - G(4) of the array, with G a Gaussian of that many voxels."""
    fine, coarse = (
        ndimage.gaussian_filter(array_IJK, sigma, mode="nearest") for sigma in BAND_VOXELS
    )
    return np.asarray(fine - coarse, dtype=np.float32)


def correlation(a_IJK: Float32Array, b_IJK: Float32Array, is_body: Mask) -> float:
    """Return sum(ab) / sqrt(sum(aa) sum(bb)) of the body, less its mean; nan if that is flat."""
    a, b = (x[is_body].astype(np.float64) for x in (a_IJK, b_IJK))
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm > 0 else float("nan")


def filtered_alike(
    a_IJK: Float32Array, b_IJK: Float32Array, is_body: Mask
) -> tuple[Float32Array, Float32Array]:
    """Return the two band-passed arrays, the sharper one filtered to look like the other.

    The filter is the sum of Gaussians that leaves the least squares; it is symmetric, so that it
    moves nothing.
    """
    swapped = _sharpness(b_IJK, is_body) > _sharpness(a_IJK, is_body)
    sharp, smooth = (b_IJK, a_IJK) if swapped else (a_IJK, b_IJK)
    parts = [sharp, *(ndimage.gaussian_filter(sharp, s, mode="nearest") for s in KERNEL_VOXELS)]
    columns = np.stack([part[is_body] for part in parts]).astype(np.float64)
    wanted = smooth[is_body].astype(np.float64)
    columns, wanted = columns - columns.mean(axis=1, keepdims=True), wanted - wanted.mean()
    normal = np.einsum("pn,qn->pq", columns, columns)
    normal += np.eye(len(parts)) * (1e-6 * np.trace(normal) / len(parts) + _TINY)
    weights = np.linalg.solve(normal, np.einsum("pn,n->p", columns, wanted))
    alike = np.asarray(
        sum(float(w) * part for w, part in zip(weights, parts, strict=True)), dtype=np.float32
    )
    return (smooth, alike) if swapped else (alike, smooth)


def motion_voxels(a_IJK: Float32Array, b_IJK: Float32Array, is_body: Mask) -> float:
    """Return how far neighbouring blocks agree to have moved: root mean square, in voxels.

    In every block, the motion d minimises sum (b - a + d grad)^2 with grad the mean of both
    gradients. What two neighbours agree on is the mean of their scalar product, weighted by how
    well each is determined. nan where fewer than ``MIN_NEIGHBOURS`` are.
    """
    if not is_body.any():
        return float("nan")
    spread = float(b_IJK[is_body].std()) + _TINY
    a, b = a_IJK / np.float32(spread), b_IJK / np.float32(spread)
    slopes = np.gradient((a + b) / 2)
    side = [min(BLOCK_VOXELS, max(2, n // 3)) for n in a.shape]
    body = is_body.astype(np.float32)
    share = _block_means(body, side)
    change = (b - a) * body
    normal = np.empty((*share.shape, 3, 3))
    for i, first in enumerate(slopes):
        for j, second in enumerate(slopes):
            normal[..., i, j] = _block_means(first * second * body, side) if i <= j else 0
    normal = _symmetric(normal)
    pull = np.stack([_block_means(slope * change, side) for slope in slopes], axis=-1)
    ridge = max(_RIDGE * float(np.trace(normal, axis1=-2, axis2=-1).mean()) / 3, _TINY)
    motion = -np.linalg.solve(normal + ridge * np.eye(3), pull[..., None])[..., 0]
    least = np.linalg.eigvalsh(normal)[..., 0]
    weight = np.where(share > 1 / 2, np.maximum(least, 0) / (np.maximum(least, 0) + ridge), 0)
    agreed = known = 0.0
    for axis, count in enumerate(share.shape):
        one, other = (
            tuple(part if x == axis else slice(None) for x in range(3))
            for part in (slice(0, count - 1), slice(1, count))
        )
        both = weight[one] * weight[other]
        agreed += float((both * (motion[one] * motion[other]).sum(axis=-1)).sum())
        known += float(both.sum())
    return float(np.sqrt(max(agreed / known, 0))) if known >= MIN_NEIGHBOURS else float("nan")


def through_intensities(
    a_IJK: NDArray[np.generic], b_IJK: NDArray[np.generic], is_body: Mask
) -> Float32Array:
    """Return ``a`` in the intensities of ``b``: each value becomes the mean of b where a has it.

    So a volume in Hounsfield units is seen through the very window that clipped the other.
    """
    a, b = (np.asarray(x, dtype=np.float64) for x in (a_IJK, b_IJK))
    low, high = float(a.min()), float(a.max())
    if high <= low:
        return a.astype(np.float32)
    step = ((a - low) * ((_INTENSITY_STEPS - 1) / (high - low))).astype(np.intp)
    there = ndimage.binary_dilation(is_body, iterations=2)
    if not there.any():
        return a.astype(np.float32)
    counts = np.bincount(step[there], minlength=_INTENSITY_STEPS)
    sums = np.bincount(step[there], weights=b[there], minlength=_INTENSITY_STEPS)
    seen = np.flatnonzero(counts)
    means = sums[seen] / counts[seen]
    place = (a - low) * ((_INTENSITY_STEPS - 1) / (high - low)) - 0.5
    return np.interp(place, seen, means).astype(np.float32)


def _symmetric(upper: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.triu(upper) + np.triu(upper, 1).swapaxes(-1, -2))


def _sharpness(array_IJK: Float32Array, is_body: Mask) -> float:
    """Return how much of the band a Gaussian of 1.6 voxels takes away."""
    blurred = ndimage.gaussian_filter(array_IJK, KERNEL_VOXELS[1], mode="nearest")
    left = float(blurred[is_body].std())
    return float(array_IJK[is_body].std()) / left if left > 0 else 0.0


def _block_means(array_IJK: NDArray[Any], side: list[int]) -> NDArray[np.float64]:
    """Average whole blocks; what is left over at the upper ends is not looked at."""
    count = [n // s for n, s in zip(array_IJK.shape, side, strict=True)]
    whole = array_IJK[tuple(slice(0, n * s) for n, s in zip(count, side, strict=True))]
    shape = [x for pair in zip(count, side, strict=True) for x in pair]
    means: NDArray[np.float64] = whole.reshape(shape).mean(axis=(1, 3, 5), dtype=np.float64)
    return means
