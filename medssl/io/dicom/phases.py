"""Many images of each place: echoes, b-values, time points. Which belong to one volume?"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from medssl.io.dicom.series import Part, Slices
from medssl.io.dicom.slices import SliceHeader
from medssl.io.dicom.vocabulary import DIMENSION_LABELS, PHASE_TAGS
from medssl.io.reasons import reject

_TOLERANCE = {"echo_ms": 0.1, "pixel_mm": 1e-4}
_LABELS = ("pixel_mm", *PHASE_TAGS, *DIMENSION_LABELS)
_VOLUME_LABELS = ("echo_ms", "b_value", "time_point", "gradient")
"""Labels that name a volume: what is incomplete under one is set aside, the others stay."""

Split = Callable[[Slices], list[Slices]]


@dataclass
class Phases:
    """Slices by volume, and those of volumes that are not complete."""

    complete: list[Part] = field(default_factory=list)
    incomplete: list[Part] = field(default_factory=list)


def split_by_labels(slices: Slices, places_of: Split) -> Phases:
    """Split slices by what their headers say of the phase, as far as that leaves whole stacks.

    A label counts only where each of its values names an image of every place: a trigger time
    that differs from slice to slice tells nothing apart. The parts may still hold several images
    of a place, which no label told apart.

    Args:
        slices: of one kind, of which some share their place.
        places_of: gives the slices of each place.
    """
    count = len(places_of(slices))
    found = Phases([Part(slices)])
    for name in _LABELS:
        parts: list[Part] = []
        for part in found.complete:
            split, incomplete = _split(part, name, count, places_of)
            parts += split
            found.incomplete += incomplete
        found.complete = parts
    return found


def _split(part: Part, name: str, places: int, places_of: Split) -> tuple[list[Part], list[Part]]:
    """Return the whole stacks that a label makes of ``part``, and the rest; else ``part`` alone."""
    if len(part.slices) == places:
        return [part], []
    values = _values(part.slices, name)
    by_value: dict[float | str, Slices] = defaultdict(list)
    for value, header in zip(values, part.slices, strict=True):
        by_value[value].append(header)
    shown = sorted(by_value, key=str)
    split = [
        Part(group, (*part.told_by, _fact(name, value, shown))) for value, group in by_value.items()
    ]
    whole = [one for one in split if len(places_of(one.slices)) == places]
    rest = [one for one in split if one not in whole]
    most = sum(len(one.slices) for one in whole) * 2 > len(part.slices)
    if len(split) == 1 or not most or (rest and name not in _VOLUME_LABELS):
        return [part], []
    return whole, rest


def split_by_order(part: Part, places: list[Slices]) -> list[Part]:
    """Split into the first, second, ... image of each place, if every place has as many.

    Raises:
        RejectedFileError: ``coincident_positions``, ``ambiguous_positions``.
    """
    counts = {len(place) for place in places}
    if counts == {1}:
        return [Part([header for (header,) in places], part.told_by)]
    if len(places) == 1:
        raise reject("coincident_positions", count=len(places[0]))
    if len(counts) > 1 or any(h.instance_number is None for place in places for h in place):
        raise reject("ambiguous_positions")
    ordered = [sorted(place, key=_number) for place in places]
    stacks = [list(stack) for stack in zip(*ordered, strict=True)]
    for earlier, later in pairwise(stacks):  # one image of every place, then the next
        if max(map(_number, earlier)) >= min(map(_number, later)):
            raise reject("ambiguous_positions")
    return [
        Part(stack, (*part.told_by, f"order={index}"))
        for index, stack in enumerate(stacks, start=1)
    ]


def _values(slices: Slices, name: str) -> list[float | str]:
    """Return the label of each slice; numbers within the tolerance of each other become one."""
    values = [_labels(header).get(name, "") for header in slices]
    tolerance = _TOLERANCE.get(name, 0.0)
    start: dict[float, float] = {}
    previous = -np.inf
    for number in sorted({value for value in values if isinstance(value, float)}):
        start[number] = start[previous] if number - previous <= tolerance else number
        previous = number
    return [start[value] if isinstance(value, float) else value for value in values]


def _labels(header: SliceHeader) -> dict[str, float | str]:
    pixel_mm = header.plane.spacing_mm[0] if header.plane else ""
    return {"pixel_mm": pixel_mm, **dict(header.phase)}


def _fact(name: str, value: float | str, values: list[float | str]) -> str:
    """Return a label in numbers only: a text out of a file is replaced by its rank."""
    if isinstance(value, float):
        return f"{name}={value:g}"
    return f"{name}={'none' if value == '' else f'no. {values.index(value) + 1}'}"


def _number(header: SliceHeader) -> int:
    return header.instance_number or 0
