"""Which pairs of volumes are worth a look at their voxels, and for which reason.

Three questions, each of which finds copies that the others miss: close signatures of whole
volumes (another kernel, thickness, spacing, window), slices in common (parts and overlaps), and
what headers say (a zoom of one acquisition, which looks like nothing else). Whether a pair is asked
for depends on that pair alone, so that a day's newcomers against an archive give the pairs that a
run over all of it would give.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from medssl.curation.acquisitions import FACTS, Corner, box_mm, relation
from medssl.curation.catalog_rows import CatalogRows
from medssl.curation.containment import shared_slices
from medssl.curation.edges import NearDuplicateConfig
from medssl.curation.neighbours import Words, as_words, distances, pairs_within
from medssl.curation.rules.base import CatalogRow
from medssl.curation.verification import Shared

_A_PART: Final = 0.8
"""Share of the larger box below which a box inside it is a part; larger ones have close
signatures."""


class Candidate(NamedTuple):
    """Two volumes to compare; ``volume_a`` comes first in the alphabet."""

    volume_a: str
    volume_b: str
    bits_full: int
    bits_bbox: int
    shared: Shared | None = None
    shared_count: int = 0


def candidates(
    rows: CatalogRows,
    slices: Path | pa.Table | None,
    config: NearDuplicateConfig,
    settled: Set[str] = frozenset(),
) -> list[Candidate]:
    """Return the pairs to compare, sorted.

    Args:
        rows: The volumes.
        slices: The table of slices, where there is one.
        config: How close is close.
        settled: Volumes that are not compared with each other.
    """
    keys = rows.keys
    place_of = {key: place for place, key in enumerate(keys)}
    is_new = np.array([key not in settled for key in keys], dtype=bool)
    words = [as_words(rows.values(name)) for name in ("dct_full", "dct_bbox")]
    close = {
        pair
        for words_NW in words
        for pair in _pairs(pairs_within(words_NW, config.max_bits, is_new if settled else None))
    }
    close |= set(_through_a_window(rows, words, config.max_bits_window, is_new))
    close |= {(place_of[a], place_of[b]) for a, b in _said_by_headers(rows, keys, is_new)}
    parts = shared_slices(slices, keys, config.shared_slices, settled) if slices is not None else []
    in_common = {(place_of[part.volume_a], place_of[part.volume_b]): part for part in parts}
    ordered = sorted(close | in_common.keys())
    modality = [str(word or "").upper() for word in rows.values("modality")]
    ordered = [pair for pair in ordered if _comparable(*(modality[place] for place in pair))]
    first, second = (np.array([pair[k] for pair in ordered], dtype=np.intp) for k in (0, 1))
    bits = zip(*(distances(words_NW, first, second).tolist() for words_NW in words), strict=True)
    found = []
    for (a, b), (full, bbox) in zip(ordered, bits, strict=True):
        part = in_common.get((a, b))
        shared = Shared(part.axis, part.offset) if part else None
        count = part.slices if part else 0
        found.append(Candidate(keys[a], keys[b], full, bbox, shared, count))
    return found


def _pairs(found: Any) -> Iterator[tuple[int, int]]:
    return zip(found.first.tolist(), found.second.tolist(), strict=True)


def _comparable(a: str, b: str) -> bool:
    """Return whether the modalities allow that two volumes are one scan."""
    return a == b or "UNKNOWN" in (a, b)


def _through_a_window(
    rows: CatalogRows, words: Sequence[Words], max_bits: int, is_new: NDArray[np.bool_]
) -> Iterator[tuple[int, int]]:
    """Yield close pairs of which one is in Hounsfield units and the other one is not.

    CT without them is rare, so that more bits may differ without many pairs to look at.
    """
    is_hu = np.array([word == "hu" for word in rows.values("intensity")], dtype=bool)
    is_ct = np.array(
        [str(word or "").upper() in ("CT", "UNKNOWN") for word in rows.values("modality")], bool
    )
    places = np.flatnonzero(is_ct)
    if not (is_ct & ~is_hu).any():
        return
    for words_NW in words:
        found = pairs_within(words_NW[places], max_bits, ~is_hu[places])
        first, second = places[found.first], places[found.second]
        wanted = (is_hu[first] != is_hu[second]) & (is_new[first] | is_new[second])
        yield from zip(first[wanted].tolist(), second[wanted].tolist(), strict=True)


def _said_by_headers(
    rows: CatalogRows, keys: Sequence[str], is_new: NDArray[np.bool_]
) -> Iterator[tuple[str, str]]:
    """Yield pairs of one acquisition, and pairs of a patient of which one holds the other."""
    by_patient: dict[str, list[int]] = defaultdict(list)
    for place, patient in enumerate(rows.values("patient_key")):
        if patient:
            by_patient[patient].append(place)
    for places in by_patient.values():
        if len(places) == 1 or not is_new[places].any():
            continue
        facts = [_facts(rows[place]) for place in places]
        boxes = [box_mm(row) for row in facts]
        for i, one in enumerate(facts):
            for j in range(i + 1, len(facts)):
                if not (is_new[places[i]] or is_new[places[j]]):
                    continue
                said = relation(one, facts[j])
                part = said == "one_patient" and _is_part(boxes[i], boxes[j])
                if said == "same_acquisition" or part:
                    yield keys[places[i]], keys[places[j]]


def _facts(row: CatalogRow) -> Mapping[str, Any]:
    return {name: row.get(name) for name in FACTS}


def _is_part(one: tuple[Corner, Corner], other: tuple[Corner, Corner]) -> bool:
    """Return whether one of two boxes lies in the other and is a good deal smaller."""
    small, large = sorted((one, other), key=lambda box: float(np.prod(box[1] - box[0])))
    slack = 0.02 * (large[1] - large[0])
    inside = (small[0] >= large[0] - slack).all() and (small[1] <= large[1] + slack).all()
    share = np.prod(small[1] - small[0]) / np.prod(large[1] - large[0])
    return bool(inside and share < _A_PART)
