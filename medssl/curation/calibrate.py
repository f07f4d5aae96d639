"""Thresholds from the user's own archive: what its headers say are copies, and what are strangers.

Volumes that headers place in one acquisition are copies; volumes of different people are not. Both
are compared as curation compares them, and the loosest thresholds are taken that let no more than
the allowed share of strangers pass. Strangers are drawn among the pairs that curation would compare
at all, which are hard, and beyond them at random. Where there are too few of either, nothing is
said: a threshold from ten pairs is a guess.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from pathlib import Path
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from medssl.config.base import Config
from medssl.curation.acquisitions import relation
from medssl.curation.candidates import Candidate, candidates
from medssl.curation.catalog_rows import CatalogRows
from medssl.curation.duplicates import measured
from medssl.curation.edges import NearDuplicateConfig
from medssl.curation.verification import Agreement
from medssl.errors import InputError

_NCC_STEP: Final = 0.0005
_MOTION_STEP: Final = 0.01


class CalibrateConfig(Config):
    """How thresholds are found."""

    false_positive_rate: Annotated[float, Field(gt=0, lt=0.5)] = 0.01
    """Share of the pairs of strangers that may pass for copies."""
    least_pairs: Annotated[int, Field(ge=1)] = 30
    """Fewer copies, or fewer strangers than one over the rate, settle nothing."""
    most_pairs: Annotated[int, Field(ge=1)] = 2000
    """Pairs of each sort that are compared; each takes a fraction of a second."""
    seed: int = 0
    """Draws the pairs where there are more."""


@dataclass(frozen=True)
class Calibration:
    """What was found in an archive."""

    copies: int
    """Pairs of one acquisition that were compared."""
    strangers: int
    """Pairs of different people that were compared."""
    copy_ncc: float
    copy_motion_voxels: float
    recall: float
    """Share of the copies that these thresholds find."""
    false_positive_rate: float
    """Share of the strangers that pass them."""
    recall_before: float
    """The same of the thresholds that were there before."""
    false_positive_rate_before: float


def calibrate(
    rows: CatalogRows,
    slices: Path | None,
    library: Path,
    thresholds: NearDuplicateConfig,
    config: CalibrateConfig,
    workers: int | str = 0,
) -> Calibration:
    """Return the thresholds that a library's own headers confirm.

    Args:
        rows: The volumes.
        slices: The table of slices, where there is one.
        library: Where the voxels are.
        thresholds: Those to compare with; what a candidate is, they say.
        config: How to find others.
        workers: See ``medssl.runs.workers``.

    Raises:
        InputError: There are too few pairs of either sort.
    """
    copies, strangers = _pairs(rows, slices, thresholds, config)
    needed = max(config.least_pairs, round(1 / config.false_positive_rate))
    _enough(len(copies), config.least_pairs, "of one acquisition by their headers")
    _enough(len(strangers), needed, "of different patients")
    known = [
        _known([found for _, found, _ in measured(pairs, rows, library, workers)])
        for pairs in (copies, strangers)
    ]
    _enough(len(known[0]), config.least_pairs, "of one acquisition, of readable files,")
    _enough(len(known[1]), needed, "of different patients, of readable files,")
    ncc, motion = loosest(known[0], known[1], config.false_positive_rate)
    before = thresholds.copy_ncc, thresholds.copy_motion_voxels
    return Calibration(
        copies=len(known[0]),
        strangers=len(known[1]),
        copy_ncc=ncc,
        copy_motion_voxels=motion,
        recall=_passing(known[0], ncc, motion),
        false_positive_rate=_passing(known[1], ncc, motion),
        recall_before=_passing(known[0], *before),
        false_positive_rate_before=_passing(known[1], *before),
    )


def _enough(found: int, least: int, what: str) -> None:
    if found < least:
        raise InputError(
            f"the library has {found} pairs {what} to compare, {least} are needed",
            hint="calibrate on a larger DICOM archive, or keep the thresholds as they are",
        )


def loosest(
    copies_N2: NDArray[np.float64], strangers_M2: NDArray[np.float64], most_false: float
) -> tuple[float, float]:
    """Return the correlation and the motion that find the most copies among those allowed.

    Of equally good ones the strictest: the highest correlation, then the least motion.

    Args:
        copies_N2: Score and motion of pairs that are copies; inf where motion is not known.
        strangers_M2: The same of pairs that are none.
        most_false: Share of the strangers that may pass.
    """
    nccs = np.round(np.arange(0.9, 1 + _NCC_STEP / 2, _NCC_STEP), 4)
    motions = np.round(np.arange(0, 0.5 + _MOTION_STEP / 2, _MOTION_STEP), 4)
    allowed = [
        (_passing(copies_N2, ncc, motion), ncc, -motion)
        for ncc in nccs.tolist()
        for motion in motions.tolist()
        if _passing(strangers_M2, ncc, motion) <= most_false
    ]
    if not allowed:
        raise InputError(
            f"no threshold keeps the strangers that pass below {most_false:g}",
            hint="are volumes of one patient in this library under several names?",
        )
    _, ncc, motion = max(allowed)
    return ncc, -motion


def _passing(pairs_N2: NDArray[np.float64], ncc: float, motion: float) -> float:
    return float(((pairs_N2[:, 0] >= ncc) & (pairs_N2[:, 1] <= motion)).mean())


def _known(found: Sequence[Agreement | None]) -> NDArray[np.float64]:
    values = [(x.score, x.motion_voxels) for x in found if x is not None]
    array: NDArray[np.float64] = np.array(values, dtype=np.float64).reshape(-1, 2)
    return np.where(np.isnan(array), np.inf, array)


def _pairs(
    rows: CatalogRows,
    slices: Path | None,
    thresholds: NearDuplicateConfig,
    config: CalibrateConfig,
) -> tuple[list[Candidate], list[Candidate]]:
    """Return pairs that headers call copies, and pairs of different people; at most so many."""
    copies, strangers = [], []
    for pair in candidates(rows, slices, thresholds):
        a, b = (rows.row(key) for key in pair[:2])
        if a["voxel_digest"] == b["voxel_digest"]:
            continue
        said = relation(a, b)
        if said == "same_acquisition":
            copies.append(pair)
        elif said == "strangers" and a["patient_key"] and b["patient_key"]:
            strangers.append(pair)
    rng = np.random.default_rng(config.seed)
    strangers += islice(_at_random(rows, rng), max(0, config.most_pairs - len(strangers)))
    return _some(copies, config.most_pairs, rng), _some(strangers, config.most_pairs, rng)


def _at_random(rows: CatalogRows, rng: np.random.Generator) -> Iterator[Candidate]:
    """Yield pairs of different people of one modality, each once."""
    patient, modality = rows.values("patient_key"), rows.values("modality")
    keys, digests = rows.keys, rows.values("voxel_digest")
    count = len(keys)
    seen: set[tuple[int, int]] = set()
    for a, b in _places(count, rng):
        told = patient[a] and patient[b] and patient[a] != patient[b]
        if told and modality[a] == modality[b] and digests[a] != digests[b] and (a, b) not in seen:
            seen.add((a, b))
            yield Candidate(keys[a], keys[b], 0, 0)


def _places(count: int, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    """Yield pairs of numbers below ``count``: all of them, or many where these are too many."""
    if count <= _ALL_UP_TO:
        everything = list(combinations(range(count), 2))
        yield from (everything[n] for n in rng.permutation(len(everything)).tolist())
        return
    for a, b in rng.integers(0, count, (count * _DRAWN_PER_VOLUME, 2)).tolist():
        if a != b:
            yield min(a, b), max(a, b)


_DRAWN_PER_VOLUME: Final = 20
_ALL_UP_TO: Final = 200


def _some(pairs: list[Candidate], most: int, rng: np.random.Generator) -> list[Candidate]:
    unique = list({pair[:2]: pair for pair in pairs}.values())
    if len(unique) <= most:
        return unique
    chosen = sorted(rng.choice(len(unique), most, replace=False).tolist())
    return [unique[n] for n in chosen]
