"""From the slices of a study to groups that may be stacked: what must not be mixed is split."""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from medssl.io import deidentify
from medssl.io.dicom.slices import SliceHeader, by_identity
from medssl.io.reasons import reject

ORIENTATION_TOLERANCE = 1e-3
SAME_PLACE_MM = 0.02
_LEAST_RENUMBERED = 3

_COMPONENTS = frozenset({"MAGNITUDE", "PHASE", "REAL", "IMAGINARY", "MIXED"})

Key = TypeVar("Key", bound=Hashable)
Slices = list[SliceHeader]
Facts = tuple[str, ...]
Matrix = tuple[int, int]
Kind = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Part:
    """Slices of one series that belong together.

    Attributes:
        slices: at least one.
        told_by: what tells them from the other parts of the series: numbers and words of a
            vocabulary, such as ``echo_ms=20``.
    """

    slices: Slices
    told_by: Facts = ()


def group_by_series(headers: Iterable[SliceHeader]) -> dict[str, Slices]:
    """Return the slices of each series, by its pseudonym."""
    return grouped(headers, lambda header: header.keys.series)


def split_by_kind(series: Sequence[SliceHeader]) -> list[Part]:
    """Split a series into slices of one study, kind, reconstruction, matrix and orientation.

    Raises:
        RejectedFileError: ``patient_conflict``.
    """
    patients = {header.keys.patient for header in series}
    if len(patients) > 1:
        raise reject("patient_conflict", patients=len(patients))
    ordered = sorted(series, key=by_identity)
    usual = _usual_matrix(ordered)
    alike = grouped(ordered, lambda header: _kind(header, usual))
    parts: list[Part] = []
    for kind, group in alike.items():
        facts = _differences(kind, list(alike))
        # A defective slice may lack its orientation: it condemns all that it may belong to.
        turned = [group] if any(h.defect for h in group) else _by_orientation(group)
        several = len(turned) > 1
        parts += [
            Part(slices, (*facts, *([f"orientation={index}"] if several else [])))
            for index, slices in enumerate(turned, start=1)
        ]
    return parts


def renumbered(series: Mapping[str, Slices], least: int) -> list[list[str]]:
    """Return the series that are single slices of one stack, each under a number of its own.

    Some anonymizers give every file a new series number. Slices belong together where patient,
    study, kind, frame of reference, orientation and pixel size agree, and no two share a place.

    Args:
        series: slices by series.
        least: fewer slices make no stack.
    """
    single = [headers[0] for headers in series.values() if len(headers) == 1]
    usable = sorted((h for h in single if h.plane and not h.defect), key=by_identity)
    alike = grouped(
        usable,
        lambda h: (
            h.keys.patient,
            h.keys.frame,
            h.plane and h.plane.spacing_mm,
            _kind(h, _matrix(h)),
        ),
    )
    stacks = [stack for group in alike.values() for stack in _by_orientation(group)]
    return [
        sorted(header.keys.series for header in stack)
        for stack in stacks
        if len(stack) >= max(least, _LEAST_RENUMBERED) and _all_apart(stack)
    ]


def depth_along(slices: Sequence[SliceHeader]) -> Callable[[SliceHeader], float]:
    """Return a function that gives a slice's place in mm, along the normal of the first one.

    One normal for all: the rounding of a slice's own would be multiplied by its distance from the
    origin.
    """
    if slices[0].plane is None:
        raise ValueError("a slice without geometry cannot be placed")
    normal = slices[0].plane.normal_LPS

    def depth_mm(header: SliceHeader) -> float:
        if header.plane is None:
            raise ValueError("a slice without geometry cannot be placed")
        return float(normal @ header.plane.origin_LPS_mm)

    return depth_mm


def grouped(slices: Iterable[SliceHeader], key: Callable[[SliceHeader], Key]) -> dict[Key, Slices]:
    """Return the slices of each key, in the order in which they came."""
    groups: dict[Key, Slices] = defaultdict(list)
    for header in slices:
        groups[key(header)].append(header)
    return dict(groups)


def _matrix(header: SliceHeader) -> Matrix:
    return header.pixels.columns, header.pixels.rows


def _usual_matrix(series: Sequence[SliceHeader]) -> Matrix:
    """Return the matrix of most slices."""
    return Counter(map(_matrix, series)).most_common(1)[0][0]


def _kind(header: SliceHeader, usual: Matrix) -> Kind:
    """Return what all slices of a stack share, as (fact, value).

    A slice whose pixels contradict its matrix is taken to be of the ``usual`` one: by itself it
    would leave the rest to be taken for a complete volume.
    """
    phase = dict(header.phase)
    believed = header.defect not in ("pixel_length_mismatch", "too_large")
    return (
        ("study", header.keys.study),
        ("modality", header.modality),
        ("frames", "several" if header.frame_index is not None else "one"),
        ("image_type", header.image_type),
        ("matrix", _matrix(header) if believed else usual),
        ("kernel", phase.get("kernel", "")),
        ("component", phase.get("component", "")),
        ("stack", phase.get("stack", "")),
    )


def _differences(kind: Kind, kinds: Sequence[Kind]) -> Facts:
    """Return the facts of ``kind`` in which ``kinds`` differ."""
    facts = []
    for index, (name, value) in enumerate(kind):
        values = sorted({other[index][1] for other in kinds}, key=str)
        if len(values) > 1:
            shown = [_shown(name, other) for other in values]
            unique = len(set(shown)) == len(shown) and all(shown)
            place = values.index(value)
            facts.append(f"{name}={shown[place] if unique else place + 1}")
    return tuple(facts)


def _shown(name: str, value: Any) -> str:
    """Return a value as words that come from no file, "" where it is not known to be harmless."""
    match name:
        case "modality" | "frames":
            return str(value)
        case "image_type":
            return deidentify.image_type(value)
        case "matrix":
            return "{}x{}".format(*value)
        case "component":
            return str(value) if value in _COMPONENTS else ""
    return ""


def _by_orientation(slices: Slices) -> list[Slices]:
    clusters: list[tuple[np.ndarray, Slices]] = []
    for header in slices:
        if header.plane is None:
            raise reject("no_geometry", bad=1, total=len(slices))
        cosines = np.array([*header.plane.row_LPS, *header.plane.column_LPS])
        for centre, members in clusters:
            if np.abs(centre - cosines).max() <= ORIENTATION_TOLERANCE:
                members.append(header)
                break
        else:
            clusters.append((cosines, [header]))
    return [members for _, members in clusters]


def _all_apart(stack: Slices) -> bool:
    places = sorted(map(depth_along(stack), stack))
    return bool(np.diff(places).min() > SAME_PLACE_MM)
