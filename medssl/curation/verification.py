"""Are two volumes copies of one scan? Their fine structure, compared at the same place.

Where the same place is has up to three answers, and the best one counts: as the headers say, in
millimetres; by voxel indices from border to border, since headers may lie about spacing, origin and
axes; and for a part of a series by the slices that both have. What is compared there, and why it
finds copies and not follow-ups, is told in ``structure.py``.

Measured by ``pipelines/benchmarks/volume_duplicates.py``: copies with another kernel, thickness or
spacing score 0.998 and more and seem to have moved by 0.13 voxels at most, all but one in a
hundred; a second phase or a follow-up reaches one of the two, and not both.
"""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medssl.curation import structure
from medssl.curation.structure import Float32Array
from medssl.io.geometry import spacing_mm
from medssl.io.volume import Volume
from medssl.library.fingerprints import dct256

SPEC: Final = "verification/3"
"""Measurements that were kept are used again only where this has not changed."""

Float64Array = NDArray[np.float64]

MAX_VOXELS: Final = 96
"""Longest side of the grid on which two volumes meet."""
MIN_OVERLAP: Final = 0.5
"""Of the smaller field of view, in millimetres; less than this is not the same place."""
MIN_SIDE_VOXELS: Final = 4
BORDER_VOXELS: Final = 2
"""How near to the end of an axis nothing is compared."""
_THIN_VOXELS: Final = 12
CUT_OFF_LEVEL: Final = 60_000
CUT_OFF_VOXELS: Final = 3
"""How near to a level of at least that nothing is compared."""
WORTH_A_LOOK: Final = 0.5
"""Correlation below which nobody asks for motion."""
UNKNOWN: Final = float("nan")


class Shared(NamedTuple):
    """Slices that two volumes share: that of index n in the first is n + offset in the second."""

    axis: int
    offset: int


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How well two volumes agree: correlations from -1 to 1, nan where they cannot be compared."""

    ncc_physical: float = UNKNOWN
    """On a common grid in millimetres, as the two headers place them."""
    ncc_index: float = UNKNOWN
    """On a common grid of voxel indices, from border to border."""
    ncc_slices: float = UNKNOWN
    """Where the two have slices in common."""
    score: float = -1.0
    """In the place of the best of these, after one was filtered to look like the other."""
    motion_voxels: float = UNKNOWN
    """How far structure has moved there; voxels of the common grid."""
    share_a: float = 1.0
    """Least share of an axis of the first volume that lies in the place of the best."""
    share_b: float = 1.0
    """The same of the second."""


class _Place(NamedTuple):
    """Two volumes on one grid, and what share of each axis lies in it."""

    a_IJK: Float32Array
    b_IJK: Float32Array
    share_a: float
    share_b: float


@dataclass(frozen=True)
class Grid:
    """A volume's levels, averaged over blocks where it is far larger than any common grid."""

    levels_IJK: Float32Array
    intensity: str
    shape: tuple[int, ...]
    """Before averaging."""
    block: NDArray[np.intp]
    affine_ras: Float64Array
    """Of the voxels before averaging."""


def compare(a: Volume, b: Volume, shared: Shared | None = None) -> Agreement:
    """Return how well ``a`` and ``b`` (both on their closest RAS grid) agree."""
    return agreement(prepare(a), prepare(b), shared)


def agreement(a: Grid, b: Grid, shared: Shared | None = None) -> Agreement:
    """Return how well two volumes agree.

    Args:
        a: One volume.
        b: The other.
        shared: Which slices the two seem to have in common, if any.
    """
    places = {
        "physical": _physical(a, b),
        "index": _index(a, b),
        "slices": _slices(a, b, shared) if shared else None,
    }
    one_scale = a.intensity == b.intensity
    if not one_scale:
        places = {name: _in_one_window(place, a.intensity) for name, place in places.items()}
    ncc = {name: _rounded(_plain_ncc(place, one_scale)) for name, place in places.items()}
    found = {f"ncc_{name}": value for name, value in ncc.items()}
    known = [name for name, value in ncc.items() if np.isfinite(value)]
    best = max(known, key=lambda name: ncc[name], default="")  # the first of equals
    place = places[best] if best else None
    if place is None or ncc[best] < WORTH_A_LOOK:
        return Agreement(**found, score=ncc.get(best, -1.0))
    a_IJK, b_IJK, share_a, share_b = place
    where = _comparable(a_IJK, b_IJK, one_scale)
    score, motion = _score_and_motion(a_IJK, b_IJK, where)
    if np.isnan(motion):  # too little was left of a thin volume
        score, motion = _score_and_motion(a_IJK, b_IJK, _body(a_IJK, b_IJK))
    return Agreement(
        **found,
        score=_rounded(score),
        motion_voxels=_rounded(motion),
        share_a=_rounded(share_a),
        share_b=_rounded(share_b),
    )


def _score_and_motion(
    a_IJK: Float32Array, b_IJK: Float32Array, where: NDArray[np.bool_]
) -> tuple[float, float]:
    bands = structure.band_pass(a_IJK), structure.band_pass(b_IJK)
    alike = structure.filtered_alike(*bands, where)
    return structure.correlation(*alike, where), structure.motion_voxels(*alike, where)


def _in_one_window(place: _Place | None, intensity_a: str) -> _Place | None:
    """Give the volume that is in Hounsfield units the intensities of the other, window and all."""
    if place is None:
        return None
    a_IJK, b_IJK = place.a_IJK, place.b_IJK
    is_body = _body(a_IJK, b_IJK)
    if intensity_a == "hu":
        return place._replace(a_IJK=structure.through_intensities(a_IJK, b_IJK, is_body))
    return place._replace(b_IJK=structure.through_intensities(b_IJK, a_IJK, is_body))


def _plain_ncc(place: _Place | None, one_scale: bool) -> float:
    if place is None:
        return UNKNOWN
    is_body = _comparable(place.a_IJK, place.b_IJK, one_scale)
    if is_body.sum() < structure.MIN_BODY_VOXELS:
        return UNKNOWN
    bands = structure.band_pass(place.a_IJK), structure.band_pass(place.b_IJK)
    return structure.correlation(*bands, is_body)


def _body(a_IJK: Float32Array, b_IJK: Float32Array) -> NDArray[np.bool_]:
    return np.asarray((a_IJK >= dct256.AIR_BELOW_LEVEL) | (b_IJK >= dct256.AIR_BELOW_LEVEL))


def _comparable(a_IJK: Float32Array, b_IJK: Float32Array, one_scale: bool) -> NDArray[np.bool_]:
    """Return where in the body two copies differ by nothing but a filter.

    That is not at the border of the grid, and not beside levels that were cut off (at the upper end
    of ``dct256.HU_RANGE``, or at a percentile): a smoothed copy was cut off after smoothing. Half
    of what a smooth kernel left unexplained lay in three voxels of a thousand, beside bright bone.
    Volumes of two scales were seen through one window, which cuts off both alike.
    """
    is_body = _body(a_IJK, b_IJK)
    where = np.zeros_like(is_body)
    where[tuple(_but_for_the_border(n) for n in is_body.shape)] = True
    if one_scale:
        is_cut = (a_IJK >= CUT_OFF_LEVEL) | (b_IJK >= CUT_OFF_LEVEL)
        where &= ~ndimage.binary_dilation(is_cut, iterations=CUT_OFF_VOXELS)
    where &= is_body
    return where if where.sum() >= structure.MIN_BODY_VOXELS else is_body


def _but_for_the_border(count: int) -> slice:
    """Return the inner part of an axis; all of a thin one, of which too little would be left."""
    if count <= _THIN_VOXELS:
        return slice(None)
    return slice(BORDER_VOXELS, count - BORDER_VOXELS)


def _index(a: Grid, b: Grid) -> _Place | None:
    """Compare with every axis stretched to the shorter of the two."""
    spans = [[(0, n) for n in grid.shape] for grid in (a, b)]
    return _stretched(a, b, *spans, shares=(1.0, 1.0))


def _slices(a: Grid, b: Grid, shared: Shared) -> _Place | None:
    """Compare the slices that both have, their planes stretched to the smaller of the two."""
    axis, offset = shared
    count_a, count_b = a.shape[axis], b.shape[axis]
    start, stop = max(0, -offset), min(count_a, count_b - offset)
    if stop - start < MIN_SIDE_VOXELS:
        return None
    spans = [[(0, n) for n in grid.shape] for grid in (a, b)]
    spans[0][axis], spans[1][axis] = (start, stop), (start + offset, stop + offset)
    shares = ((stop - start) / count_a, (stop - start) / count_b)
    return _stretched(a, b, *spans, shares=shares)


def _stretched(
    a: Grid,
    b: Grid,
    span_a: list[tuple[int, int]],
    span_b: list[tuple[int, int]],
    *,
    shares: tuple[float, float],
) -> _Place | None:
    counts = [np.array([stop - start for start, stop in span]) for span in (span_a, span_b)]
    shape = np.minimum(np.minimum(counts[0], counts[1]), MAX_VOXELS)
    if (shape < MIN_SIDE_VOXELS).any():
        return None
    found = []
    for grid, span, count in zip((a, b), (span_a, span_b), counts, strict=True):
        step = count / shape
        start = np.array([first for first, _ in span]) + (step - 1) / 2  # borders coincide
        found.append(_sample(grid, np.diag(step), start, shape))
    return _Place(found[0], found[1], *shares)


def _physical(a: Grid, b: Grid) -> _Place | None:
    """Compare on the overlap of the fields of view, at the coarser of the two spacings.

    The grid is laid along the axes of the coarser volume: most copies are as oblique as their
    original, and their axes then coincide.
    """
    coarser = max(a.affine_ras, b.affine_ras, key=lambda affine: abs(np.linalg.det(affine)))
    along_axes = np.eye(4)
    along_axes[:3, :3] = coarser[:3, :3] / spacing_mm(coarser)
    affine_a, affine_b = (np.linalg.inv(along_axes) @ grid.affine_ras for grid in (a, b))
    low_a, high_a = _field_of_view_mm(a.shape, affine_a)
    low_b, high_b = _field_of_view_mm(b.shape, affine_b)
    low, high = np.maximum(low_a, low_b), np.minimum(high_a, high_b)
    smaller = min(np.prod(high_a - low_a), np.prod(high_b - low_b))
    if (high <= low).any() or np.prod(high - low) < MIN_OVERLAP * smaller:
        return None
    coarser_mm = np.maximum(spacing_mm(affine_a), spacing_mm(affine_b))
    step_mm = np.maximum(coarser_mm, (high - low) / MAX_VOXELS)
    shape = np.floor((high - low) / step_mm + 1e-6).astype(int)
    if (shape < MIN_SIDE_VOXELS).any():
        return None
    to_mm = np.eye(4)
    to_mm[:3, :3], to_mm[:3, 3] = np.diag(step_mm), low + step_mm / 2
    found = []
    for grid, affine in ((a, affine_a), (b, affine_b)):
        to_voxel = np.linalg.inv(affine) @ to_mm
        found.append(_sample(grid, to_voxel[:3, :3], to_voxel[:3, 3], shape))
    share_a, share_b = (
        float(((high - low) / (top - bottom)).min())
        for bottom, top in ((low_a, high_a), (low_b, high_b))
    )
    return _Place(found[0], found[1], share_a, share_b)


def _sample(
    grid: Grid, matrix: Float64Array, offset: Float64Array, shape: NDArray[Any]
) -> Float32Array:
    """Read a volume at voxel matrix @ index + offset, averaging where the new grid is coarser."""
    matrix = matrix / grid.block[:, None]
    offset = (offset - (grid.block - 1) / 2) / grid.block
    step = np.abs(matrix).max(axis=1)
    sigma = np.where(step > 1, np.sqrt(np.maximum(step**2 - 1, 0)) / 2.3548, 0)
    smooth = ndimage.gaussian_filter(grid.levels_IJK, sigma, mode="nearest")
    size = tuple(shape.tolist())
    out = ndimage.affine_transform(
        smooth, matrix, offset, output_shape=size, order=1, mode="nearest", output=np.float32
    )
    return np.asarray(out, dtype=np.float32)


def prepare(volume: Volume) -> Grid:
    """Return what ``agreement`` needs of a volume on its closest RAS grid."""
    levels = dct256.quantise(volume.array_IJK, volume.intensity)
    block = np.maximum(np.array(levels.shape) // (2 * MAX_VOXELS), 1)
    shape = levels.shape
    if (block > 1).any():
        count = np.array(shape) // block
        whole = levels[tuple(slice(0, n) for n in (count * block).tolist())]
        split = [int(x) for pair in zip(count, block, strict=True) for x in pair]
        levels = whole.reshape(split).mean(axis=(1, 3, 5), dtype=np.float32)
    levels_f32 = levels.astype(np.float32, copy=False)
    return Grid(levels_f32, volume.intensity, shape, block, volume.affine_ras)


def _field_of_view_mm(
    shape: tuple[int, ...], affine: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Return the lowest and highest coordinates of the grid's outer borders."""
    ends = [(-0.5, n - 0.5) for n in shape]
    corners = np.array(np.meshgrid(*ends, indexing="ij")).reshape(3, -1)
    xyz = affine[:3, :3] @ corners + affine[:3, 3:]
    return xyz.min(axis=1), xyz.max(axis=1)


def _rounded(score: float) -> float:
    """Four digits: beyond them two machines may differ, and nobody's threshold lies there."""
    return round(score, 4)
