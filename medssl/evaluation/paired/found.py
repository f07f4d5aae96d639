"""How well studies and reports find each other, and studies those like them, in numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from medssl.config.base import Config
from medssl.evaluation.intervals import Resampling, bootstrap_statistic, mean_over_patients
from medssl.evaluation.paired.retrieval import (
    average_precision_at,
    label_overlap,
    mean_relevance,
    ranking_scores,
    same_words,
)
from medssl.evaluation.paired.studies import Embedded, report_digests
from medssl.reports.pairs import PRESENT

Floats = NDArray[np.float64]
Json = dict[str, Any]
SHARE: Final = (0.0, 1.0)
FEWEST_STUDIES: Final = 2
AT_ONCE: Final = 1024


class RetrievalOptions(Config):
    """How many are looked at."""

    k: tuple[Annotated[int, Field(gt=0)], ...] = (1, 5, 10, 50, 100)
    """First ones; those beyond the number of studies are left out."""
    percent: tuple[Annotated[float, Field(gt=0, le=100)], ...] = (1, 5, 10)
    """First ones, in percent of all."""


def reports_and_images(
    found: Embedded, sections: Sequence[str], options: RetrievalOptions, how: Resampling
) -> Json | None:
    """Return how well reports are found by images and the other way, None for less than two.

    ``same_words`` counts any study whose report has the same words as found; ``strict`` only the
    study itself, as most papers do. ``chance`` is what a model finds that cannot tell anything
    apart.

    Args:
        found: Studies; those without a report do not take part.
        sections: Sections of reports that count.
        options: How many are looked at.
        how: How intervals are made.
    """
    found = found.with_text()
    if len(found.pairs) < FEWEST_STUDIES:
        return None
    study_N = [pair.study_key for pair in found.pairs]
    text_N = report_digests(found.pairs, sections)

    def scores(queries_ND: Floats, gallery_ND: Floats, *, strict: bool) -> dict[str, Floats]:
        def of(rows: slice) -> dict[str, Floats]:
            same_NM = same_words(study_N, study_N if strict else text_N, rows)
            return ranking_scores(
                queries_ND[rows] @ gallery_ND.T, same_NM, options.k, options.percent
            )

        return _in_blocks(len(study_N), of)

    nothing_ND = np.zeros_like(found.image_ND)
    ways = {
        "image_to_report": (found.image_ND, found.text_ND),
        "report_to_image": (found.text_ND, found.image_ND),
        "chance": (nothing_ND, nothing_ND),
    }
    _, count_N = np.unique(text_N, return_counts=True)
    return {
        "studies": len(study_N),
        "not_unique": float(count_N[count_N > 1].sum() / len(text_N)),
        **{
            name: {
                "same_words": _told(scores(*sides, strict=False), found, how),
                "strict": _told(scores(*sides, strict=True), found, how),
            }
            for name, sides in ways.items()
        },
    }


def studies_alike(found: Embedded, options: RetrievalOptions, how: Resampling) -> Json | None:
    """Return whether the studies nearest to one have its findings, of those that have any.

    ``map@k`` counts studies with exactly the same findings, ``overlap@k`` is the mean share of
    findings that are common to both (Jaccard). Studies of the same patient are hidden. None where
    fewer than two patients have findings.

    Args:
        found: Studies.
        options: How many are looked at.
        how: How intervals are made.
    """
    present = [{n for n, value in p.labels.items() if value == PRESENT} for p in found.pairs]
    chosen = np.array([n for n, names in enumerate(present) if names], np.int64)
    rows = found.rows(chosen)
    patient_N = np.array(rows.patients)
    if len(set(rows.patients)) < FEWEST_STUDIES:
        return None
    names = sorted(set().union(*present))
    present_NF = np.array([[name in present[n] for name in names] for n in chosen], np.bool_)
    ks = [k for k in options.k if k < len(chosen)]

    def scores(vectors_ND: Floats) -> dict[str, Floats]:
        def of(some: slice) -> dict[str, Floats]:
            hidden_NM = patient_N[some, None] == patient_N
            matrix_NM = np.where(hidden_NM, -np.inf, vectors_ND[some] @ vectors_ND.T)
            overlap_NM = label_overlap(present_NF[some], present_NF)
            overlap = {f"overlap@{k}": mean_relevance(matrix_NM, overlap_NM, k) for k in ks}
            exact = {f"map@{k}": average_precision_at(matrix_NM, overlap_NM == 1, k) for k in ks}
            return overlap | exact

        return _in_blocks(len(chosen), of)

    return {
        "studies": len(chosen),
        "image_to_image": _told(scores(rows.image_ND), rows, how),
        "chance": _told(scores(np.zeros_like(rows.image_ND)), rows, how),
    }


def _in_blocks(count: int, scores: Callable[[slice], dict[str, Floats]]) -> dict[str, Floats]:
    """Return scores of all queries, some at a time: all pairs of 20,000 studies are gigabytes."""
    parts = [scores(slice(start, start + AT_ONCE)) for start in range(0, count, AT_ONCE)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _told(scores: Mapping[str, Floats], found: Embedded, how: Resampling) -> Json:
    """Return means over patients with intervals, and the median of ranks."""
    told: Json = {}
    for name, values_N in scores.items():
        if name == "rank":
            ranks = (1.0, float(len(values_N)))
            median = bootstrap_statistic(_median, [values_N], found.patients, how=how, bounds=ranks)
            told["median_rank"] = asdict(median)
            continue
        mean = mean_over_patients(
            values_N.tolist(),
            found.patients,
            resamples=how.resamples,
            confidence=how.confidence,
            seed=how.seed,
            bounds=SHARE,
        )
        told[name] = {"value": mean.mean, "low": mean.low, "high": mean.high}
    return told


def _median(values_N: Floats) -> float:
    return float(np.median(values_N))
