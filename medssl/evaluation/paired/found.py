"""How well studies and reports find each other, and studies those like them, in numbers."""

from collections.abc import Mapping, Sequence
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
    similarity_NN = found.image_ND @ found.text_ND.T
    same_NN = same_words(
        [pair.study_key for pair in found.pairs], report_digests(found.pairs, sections)
    )
    itself_NN = np.eye(len(similarity_NN), dtype=np.bool_)
    table: Json = {}
    for name, matrix in {
        "image_to_report": similarity_NN,
        "report_to_image": similarity_NN.T,
        "chance": np.zeros_like(similarity_NN),
    }.items():
        table[name] = {
            what: _told(ranking_scores(matrix, relevant, options.k, options.percent), found, how)
            for what, relevant in {"same_words": same_NN, "strict": itself_NN}.items()
        }
    twice = float((same_NN.sum(axis=1) > 1).mean())
    return {"studies": len(found.pairs), "not_unique": twice, **table}


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
    overlap_NN = label_overlap(present_NF)
    similarity_NN = np.where(
        patient_N[:, None] == patient_N, -np.inf, rows.image_ND @ rows.image_ND.T
    )
    nothing_NN = np.where(similarity_NN > -np.inf, 0.0, -np.inf)
    ks = [k for k in options.k if k < len(chosen)]

    def scores(matrix_NN: Floats) -> dict[str, Floats]:
        overlap = {f"overlap@{k}": mean_relevance(matrix_NN, overlap_NN, k) for k in ks}
        exact = {f"map@{k}": average_precision_at(matrix_NN, overlap_NN == 1, k) for k in ks}
        return overlap | exact

    return {
        "studies": len(chosen),
        "image_to_image": _told(scores(similarity_NN), rows, how),
        "chance": _told(scores(nothing_NN), rows, how),
    }


def _told(scores: Mapping[str, Floats], found: Embedded, how: Resampling) -> Json:
    """Return means over patients with intervals, and the median of ranks."""
    told: Json = {}
    for name, values_N in scores.items():
        if name == "rank":
            median = bootstrap_statistic(_median, [values_N], found.patients, how=how)
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
