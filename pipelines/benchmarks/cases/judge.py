"""Judges what came out in world space: each volume against the function its voxels were made of."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from pipelines.benchmarks.cases.case import RESAMPLED, Expect, Expected
from pipelines.benchmarks.cases.phantoms import Array, points_mm

_EDGE = 1e-3
"""Voxels on the rim of what was scanned count, whatever the rounding of their place."""

_REACH = 0.51
_RIGHT_SHARE = 0.99
_MOST_VOXELS = 100_000


@dataclass(frozen=True, eq=False)
class Made:
    """One volume that came out: voxels (I, J, K) and where they lie, voxel index to RAS+ mm."""

    array_IJK: Array
    affine_ras: Array


def fault(made: Made, wanted: Expected, tolerance: float | None = None) -> str:
    """Return what is wrong with a volume, "" for nothing.

    Within what was scanned every voxel must hold F at its place, and what was scanned must lie
    within the volume.

    Args:
        made: the volume.
        wanted: what it must be.
        tolerance: by how much a voxel may differ; by default, what ``wanted`` allows.
    """
    if made.array_IJK.ndim != 3 or abs(np.linalg.det(made.affine_ras[:3, :3])) == 0:  # noqa: PLR2004
        return f"shape {made.array_IJK.shape}"
    last = np.array(wanted.shape) - 1
    corners = np.stack(np.meshgrid(*([0, n] for n in last)), -1).reshape(-1, 3)
    reached = _indices(made.affine_ras, _places(wanted.affine_ras, corners))
    if (reached < -_REACH).any() or (reached > np.array(made.array_IJK.shape) - 1 + _REACH).any():
        return "does not cover what was scanned"
    places, voxels = _sampled(made)
    scanned = _indices(wanted.affine_ras, places)
    inside = ((scanned >= -_EDGE) & (scanned <= last + _EDGE)).all(axis=-1)
    if not inside.any():
        return "covers nothing of what was scanned"
    off = np.abs(voxels[inside] - wanted.field(places[inside]))
    allowed = wanted.tolerance if tolerance is None else tolerance
    wrong = float((~(off <= allowed)).mean())
    if wrong > (0 if tolerance is None else 1 - _RIGHT_SHARE):
        return f"{100 * wrong:.0f} % of voxels off, by up to {np.nanmax(off):.3g}"
    return ""


def matched(made: Sequence[Made], wanted: Sequence[Expected], *, lenient: bool) -> list[str]:
    """Return what is wrong with each wanted volume at best, "" for nothing; one volume for each.

    Args:
        made: what came out, in any order.
        wanted: what must.
        lenient: allow every voxel to be off by 1, and a few to be anything.
    """
    left, faults = list(made), []
    for one in wanted:
        tolerance = max(RESAMPLED, one.tolerance) if lenient else None
        found = [fault(other, one, tolerance) for other in left]
        if "" in found:
            left.pop(found.index(""))
            faults.append("")
        else:
            faults.append(min(found, key=len) if found else "nothing came out")
    return faults


def verdict(made: Sequence[Made] | str, expect: Expect, truth: Sequence[Expected]) -> str:
    """Return in a word what another reader did.

    Args:
        made: what came out, or what stopped it.
        expect: what must become of the files.
        truth: the volumes of a case that does not know its own; else those of ``expect``.
    """
    if isinstance(made, str):
        return made if made == "-" else "err"
    if not made:
        return "0"
    wanted = tuple(truth) or expect.fair
    if not wanted:
        refused = any(outcome == "quarantined" for outcome, _ in expect.others)
        return "WRONG" if refused else "kept"
    word = _compared(made, wanted)
    kept = truth and expect.fair and word == "WRONG" and _compared(made, expect.fair) == "ok"
    return "kept" if kept else word


def _compared(made: Sequence[Made], wanted: Sequence[Expected]) -> str:
    right = matched(made, wanted, lenient=True).count("")
    more = [one for one in made if 1 not in one.array_IJK.shape]
    if right < len(wanted):
        return "part" if right and right == len(more) else "WRONG"
    single = 1 in wanted[0].shape
    return "ok" if single or len(more) <= right else "WRONG"


def sampler(made: Made) -> Expected:
    """Return a volume, found right by other means, as what others must find too."""
    voxels = made.array_IJK.astype(np.float32)

    def field(places: Array) -> Array:
        at = _indices(made.affine_ras, places)
        return np.asarray(map_coordinates(voxels, at.T, order=1, mode="nearest"))

    i, j, k = voxels.shape
    return Expected(made.affine_ras, (i, j, k), field, tolerance=RESAMPLED)


def _sampled(made: Made) -> tuple[Array, Array]:
    """Return voxels and their places: all, or of a large volume some at random."""
    shape = made.array_IJK.shape
    if made.array_IJK.size <= _MOST_VOXELS:
        return points_mm(made.affine_ras, shape).reshape(-1, 3), made.array_IJK.reshape(-1)
    flat = np.random.default_rng(0).integers(made.array_IJK.size, size=_MOST_VOXELS)
    index = np.stack(np.unravel_index(flat, shape), axis=-1)
    return _places(made.affine_ras, index), made.array_IJK[tuple(index.T)]


def _places(affine: Array, indices: Array) -> Array:
    return np.asarray(indices @ affine[:3, :3].T + affine[:3, 3])


def _indices(affine: Array, places: Array) -> Array:
    return np.asarray((places - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T)
