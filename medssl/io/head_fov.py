"""May a face be in it? Heads can be recognised, so whoever exports images has to know.

Judged so that a head is never called none: only a body part that a header states, and that ends
below the neck, in a field of view too short to reach up there, is a "no". A limb is not: the chin
is beside a shoulder, and hands are scanned beside the head.
"""

from medssl.io.geometry import axis_codes
from medssl.io.volume import Volume

_HEADS = frozenset({"head", "head_neck", "whole_body"})
_HEADLESS_MM = {
    "chest": 450,
    "breast": 450,
    "abdomen": 550,
    "pelvis": 600,
    "chest_abdomen": 650,
    "abdomen_pelvis": 700,
    "chest_abdomen_pelvis": 850,
}
"""How far up and down a scan of a body part may reach before it may hold the chin as well."""


def head_fov(body_part: str, length_mm: float) -> str:
    """Return "yes", "no" or "possible".

    Args:
        body_part: a word of the vocabulary, "" where it is not stated.
        length_mm: how far up and down the patient the images reach.
    """
    if body_part in _HEADS:
        return "yes"
    most_mm = _HEADLESS_MM.get(body_part)
    return "no" if most_mm is not None and length_mm <= most_mm else "possible"


def upright_mm(volume: Volume) -> float:
    """Return how far up and down the patient ``volume`` reaches."""
    upright = next(axis for axis, code in enumerate(axis_codes(volume.affine_ras)) if code in "SI")
    return volume.shape[upright] * volume.spacing_mm[upright]
