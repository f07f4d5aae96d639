"""From the slices of one series to ordered stacks: split, remove copies, sort in space."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np

from medssl.io.dicom.slices import SliceHeader, by_identity
from medssl.io.reasons import reject

SAME_PLACE_MM = 0.02
ORIENTATION_TOLERANCE = 1e-3
MOST_PHASES = 8
"""A series with more images than this of each place is a time series, not a set of scans."""

_PHASE_TOLERANCE = {"echo_ms": 0.1}
_BLOCK_GAP_STEPS, _BLOCK_GAP_MM = 10.0, 30.0

Key = TypeVar("Key", bound=Hashable)
PixelDigest = Callable[[SliceHeader], str]
Slices = list[SliceHeader]


@dataclass(frozen=True)
class Arranged:
    """Stacks in spatial order, and the slices left out because another file holds the same."""

    stacks: list[Slices]
    copies: Slices


def group_by_series(headers: Iterable[SliceHeader]) -> dict[str, Slices]:
    """Return the slices of each series, by its pseudonym."""
    return _grouped(headers, lambda header: header.keys.series)


def split_by_kind(series: Sequence[SliceHeader]) -> list[Slices]:
    """Split a series into slices of one study, kind, matrix and orientation.

    Raises:
        RejectedFileError: ``patient_conflict``.
    """
    patients = {header.keys.patient for header in series}
    if len(patients) > 1:
        raise reject("patient_conflict", patients=len(patients))
    ordered = sorted(series, key=by_identity)
    alike = _grouped(
        ordered,
        lambda h: (h.keys.study, h.modality, h.image_type, h.pixels.rows, h.pixels.columns),
    )
    kinds: list[Slices] = []
    for group in alike.values():
        # A defective slice may lack its orientation: it condemns all that it may belong to.
        kinds += [group] if any(h.defect for h in group) else _by_orientation(group)
    return kinds


def arrange(slices: Slices, digest: PixelDigest) -> Arranged:
    """Order slices of one orientation into stacks with one slice at each place.

    Args:
        slices: of one kind, each with its plane.
        digest: gives the digest of a slice's pixels; asked only where two slices compete.

    Raises:
        RejectedFileError: ``sop_uid_conflict``, ``coincident_positions``, ``time_series``,
            ``ambiguous_positions``.
    """
    unique, copies = _drop_repeated_instances(slices, digest)
    places = _places(unique)
    stacks = [unique]
    if len(places) < len(unique):
        stacks = _by_phase(unique, places)
        if not stacks:
            places, more = _drop_repeated_pixels(places, digest)
            copies += more
            stacks = _by_rank(places)
    blocks = [block for stack in stacks for block in _blocks(_sorted(stack))]
    return Arranged(blocks, copies)


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


def _drop_repeated_instances(slices: Slices, digest: PixelDigest) -> tuple[Slices, Slices]:
    """Keep one of each instance; the others must be the same slice."""
    unique, copies = [], []
    for same in _grouped(slices, lambda h: (h.keys.instance, h.frame_index)).values():
        first, *others = same
        if any(not _same_slice(first, other, digest) for other in others):
            raise reject("sop_uid_conflict")
        unique.append(first)
        copies += others
    return unique, copies


def _same_slice(one: SliceHeader, other: SliceHeader, digest: PixelDigest) -> bool:
    return one.plane == other.plane and digest(one) == digest(other)


def _places(slices: Slices) -> list[Slices]:
    """Return the slices of each place along the normal, in order."""
    places: list[Slices] = []
    depth_mm = -np.inf
    for header in _sorted(slices):
        here_mm = _depth_mm(header)
        if here_mm - depth_mm > SAME_PLACE_MM:
            places.append([])
            depth_mm = here_mm
        places[-1].append(header)
    return places


def _drop_repeated_pixels(places: list[Slices], digest: PixelDigest) -> tuple[list[Slices], Slices]:
    """Keep one of the slices that show the same at the same place."""
    kept, copies = [], []
    for place in places:
        if len(place) == 1:
            kept.append(place)
            continue
        alike = _grouped(place, digest).values()
        kept.append([same[0] for same in alike])
        copies += [header for same in alike for header in same[1:]]
    return kept, copies


def _by_phase(slices: Slices, places: list[Slices]) -> list[Slices]:
    """Split by what the headers say of the phase, if that leaves full stacks; else nothing."""
    _refuse_time_series(places)
    labels = _phase_labels(slices)
    varying = [name for name, values in labels.items() if len(set(values)) > 1]
    attempts = [varying, *([name] for name in varying)]
    for names in attempts:
        keys = list(zip(*(labels[name] for name in names), strict=True))
        parts: dict[Hashable, Slices] = defaultdict(list)
        for key, header in zip(keys, slices, strict=False):
            parts[key].append(header)
        groups = list(parts.values())
        if len(groups) > 1 and all(_is_full(group, places) for group in groups):
            return groups
    return []


def _phase_labels(slices: Slices) -> dict[str, list[Hashable]]:
    """Return, for each phase tag, the cluster each slice belongs to."""
    names = dict.fromkeys(name for header in slices for name, _ in header.phase)
    return {
        name: _clustered(
            [dict(header.phase).get(name, "") for header in slices], _PHASE_TOLERANCE.get(name, 0.0)
        )
        for name in names
    }


def _clustered(values: list[float | str], tolerance: float) -> list[Hashable]:
    """Replace each number by the first of the run of numbers that lie within ``tolerance``."""
    start: dict[float, float] = {}
    previous = -np.inf
    for number in sorted({value for value in values if isinstance(value, float)}):
        start[number] = start[previous] if number - previous <= tolerance else number
        previous = number
    return [start[value] if isinstance(value, float) else value for value in values]


def _is_full(group: Slices, places: list[Slices]) -> bool:
    return len(group) == len(places) == len(_places(group))


def _by_rank(places: list[Slices]) -> list[Slices]:
    """Split into the first, second, ... image of each place, if every place has as many."""
    _refuse_time_series(places)
    counts = {len(place) for place in places}
    if counts == {1}:
        return [[header for (header,) in places]]
    if len(places) == 1:
        raise reject("coincident_positions", count=len(places[0]))
    if len(counts) > 1 or any(h.instance_number is None for place in places for h in place):
        raise reject("ambiguous_positions")
    ordered = [sorted(place, key=_number) for place in places]
    stacks = [list(stack) for stack in zip(*ordered, strict=True)]
    for earlier, later in pairwise(stacks):  # one image of every place, then the next
        if max(map(_number, earlier)) >= min(map(_number, later)):
            raise reject("ambiguous_positions")
    return stacks


def _number(header: SliceHeader) -> int:
    return header.instance_number or 0


def _refuse_time_series(places: list[Slices]) -> None:
    most = max(len(place) for place in places)
    if most > MOST_PHASES and len(places) > 1:
        raise reject("time_series", count=most)


def _blocks(stack: Slices) -> list[Slices]:
    """Split where a gap is too wide to be missing slices: two blocks under one number."""
    if len(stack) < 2:  # noqa: PLR2004  a gap needs two
        return [stack]
    steps = np.diff([_depth_mm(header) for header in stack])
    widest = max(_BLOCK_GAP_STEPS * float(np.median(steps)), _BLOCK_GAP_MM)
    cuts = (np.flatnonzero(steps > widest) + 1).tolist()
    return [stack[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(stack)], strict=True)]


def _sorted(slices: Slices) -> Slices:
    return sorted(slices, key=lambda header: (_depth_mm(header), by_identity(header)))


def _depth_mm(header: SliceHeader) -> float:
    if header.plane is None:
        raise ValueError("a slice without geometry cannot be placed")
    return header.plane.depth_mm


def _grouped(slices: Iterable[SliceHeader], key: Callable[[SliceHeader], Key]) -> dict[Key, Slices]:
    groups: dict[Key, Slices] = defaultdict(list)
    for header in slices:
        groups[key(header)].append(header)
    return dict(groups)
