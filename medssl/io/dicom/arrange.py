"""From slices of one kind to ordered stacks with one slice at each place."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from medssl.io.dicom.phases import split_by_labels, split_by_order
from medssl.io.dicom.series import SAME_PLACE_MM, Part, Slices, depth_along, grouped
from medssl.io.dicom.slices import SliceHeader, by_identity
from medssl.io.limits import IrregularPolicy
from medssl.io.reasons import reject

MOST_PHASES = 8
"""More images than this of each place are a time series, not a set of scans."""

_BLOCK_GAP_STEPS, _BLOCK_GAP_MM = 10.0, 30.0

PixelDigest = Callable[[SliceHeader], str]


@dataclass
class Arranged:
    """What became of the slices of one kind.

    Attributes:
        stacks: in spatial order.
        copies: left out because another file holds the same slice.
        incomplete: of volumes of a series that lack slices the others have.
    """

    stacks: list[Part]
    copies: Slices
    incomplete: list[Part] = field(default_factory=list)


def arrange(kind: Part, digest: PixelDigest, policy: IrregularPolicy) -> Arranged:
    """Order slices of one orientation into stacks.

    Args:
        kind: slices of one kind, each with its plane.
        digest: gives the digest of a slice's pixels; asked only where two slices compete.
        policy: whether, and up to how many, time points become volumes.

    Raises:
        RejectedFileError: ``sop_uid_conflict``, ``coincident_positions``, ``time_series``,
            ``ambiguous_positions``.
    """
    unique, copies = _drop_repeated_instances(kind.slices, digest)
    depth_mm = depth_along(unique)

    def in_order(slices: Slices) -> Slices:
        return sorted(slices, key=lambda header: (depth_mm(header), by_identity(header)))

    def places_of(slices: Slices) -> list[Slices]:
        ordered = in_order(slices)
        apart = np.diff([depth_mm(header) for header in ordered], prepend=-np.inf) > SAME_PLACE_MM
        starts = np.flatnonzero(apart).tolist()
        return [ordered[a:b] for a, b in zip(starts, [*starts[1:], len(ordered)], strict=True)]

    _refuse_time_series(places_of(unique), policy)
    phases = split_by_labels(unique, places_of)
    parts: list[Part] = []
    for phase in phases.complete:
        places, more = _drop_repeated_pixels(places_of(phase.slices), digest)
        copies += more
        parts += split_by_order(phase, places)
    if len(parts) > policy.most_volumes:
        raise reject("time_series", count=len(parts))
    stacks = [
        Part(block.slices, (*kind.told_by, *block.told_by))
        for part in parts
        for block in _blocks(Part(in_order(part.slices), part.told_by), depth_mm)
    ]
    return Arranged(stacks, copies, phases.incomplete)


def _drop_repeated_instances(slices: Slices, digest: PixelDigest) -> tuple[Slices, Slices]:
    """Keep one of each instance; the others must be the same slice."""
    unique, copies = [], []
    for same in grouped(slices, lambda h: (h.keys.instance, h.frame_index)).values():
        first, *others = same
        if any(not _same_slice(first, other, digest) for other in others):
            raise reject("sop_uid_conflict")
        unique.append(first)
        copies += others
    return unique, copies


def _same_slice(one: SliceHeader, other: SliceHeader, digest: PixelDigest) -> bool:
    return one.plane == other.plane and digest(one) == digest(other)


def _drop_repeated_pixels(places: list[Slices], digest: PixelDigest) -> tuple[list[Slices], Slices]:
    """Keep one of the slices that show the same at the same place.

    Where that leaves more of one place than of another, they are no copies: two time points may
    both be empty somewhere.
    """
    alike = [
        list(grouped(place, digest).values()) if len(place) > 1 else [place] for place in places
    ]
    if len({len(groups) for groups in alike}) > 1:
        return places, []
    kept = [[same[0] for same in groups] for groups in alike]
    return kept, [header for groups in alike for same in groups for header in same[1:]]


def _refuse_time_series(places: list[Slices], policy: IrregularPolicy) -> None:
    most = max(len(place) for place in places)
    if policy.time_series == "skip" and most > MOST_PHASES and len(places) > 1:
        raise reject("time_series", count=most)


def _blocks(stack: Part, depth_mm: Callable[[SliceHeader], float]) -> list[Part]:
    """Split where a gap is too wide to be missing slices: two blocks under one number."""
    if len(stack.slices) < 2:  # noqa: PLR2004  a gap needs two
        return [stack]
    steps = np.diff([depth_mm(header) for header in stack.slices])
    widest = max(_BLOCK_GAP_STEPS * float(np.median(steps)), _BLOCK_GAP_MM)
    cuts = (np.flatnonzero(steps > widest) + 1).tolist()
    if not cuts:
        return [stack]
    bounds = zip([0, *cuts], [*cuts, len(stack.slices)], strict=True)
    return [
        Part(stack.slices[start:stop], (*stack.told_by, f"block={index}"))
        for index, (start, stop) in enumerate(bounds, start=1)
    ]
