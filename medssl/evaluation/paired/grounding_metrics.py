"""How well a map of cosines shows where something is.

Axes are those of the map, two or three.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label

Floats = NDArray[Any]
Bools = NDArray[np.bool_]
THRESHOLDS: Final = (0.1, 0.2, 0.3, 0.4, 0.5)
"""Of the range from the lowest to the highest value of a map."""
BOX_THRESHOLD: Final = 0.5
NAN: Final = float("nan")


def pointing_game(heat: Floats, mask: Bools) -> float:
    """Return whether the highest value lies in the mask; of several highest, the share that does.

    Zhang et al. 2018 (Int J Comput Vis 126:1084), without their tolerance.
    """
    return float(mask[heat == heat.max()].mean())


def contrast_to_noise(heat: Floats, mask: Bools) -> float:
    """Return ``(mean inside - mean outside) / sqrt(variance inside + variance outside)``.

    As BioViL reports it (Boecking et al. 2022, arXiv:2204.09817), but with its sign: below 0 the
    map is lower inside. NaN where the mask is empty or everything, or the map is constant on both
    sides.
    """
    inside, outside = heat[mask].astype(np.float64), heat[~mask].astype(np.float64)
    if not inside.size or not outside.size:
        return NAN
    noise = float(np.sqrt(inside.var() + outside.var()))
    return float(inside.mean() - outside.mean()) / noise if noise > 0 else NAN


def mean_iou(heat: Floats, mask: Bools) -> float:
    """Return intersection over union of mask and map, averaged over :data:`THRESHOLDS`."""
    scaled = _scaled(heat)
    return float(np.mean([iou(scaled >= threshold, mask) for threshold in THRESHOLDS]))


def box_iou(heat: Floats, mask: Bools) -> float:
    """Return intersection over union of two boxes: of the map's largest part, and of the mask.

    The part is that of connected voxels of at least half of the map's range, neighbours by face.
    0.5 or more is a hit: Acc@0.5.
    """
    parts, count = label(_scaled(heat) >= BOX_THRESHOLD)
    largest = int(np.bincount(parts.ravel(), minlength=count + 1)[1:].argmax()) + 1
    return iou(_box(parts == largest), _box(mask))


def iou(first: Bools, second: Bools) -> float:
    """Return intersection over union of two masks, NaN where both are empty."""
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else NAN


def _scaled(heat: Floats) -> Floats:
    """Return a map with its lowest value at 0 and its highest at 1; a constant one is 1."""
    low, high = float(heat.min()), float(heat.max())
    return (heat - low) / (high - low) if high > low else np.ones_like(heat)


def _box(mask: Bools) -> Bools:
    box = np.zeros_like(mask)
    found = find_objects(mask.astype(np.uint8))
    if found:
        box[found[0]] = True
    return box
