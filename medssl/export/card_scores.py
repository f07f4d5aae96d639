"""What evaluations found, as lines of a model card: scores, their intervals, groups of patients."""

from collections.abc import Iterator, Mapping
from typing import Any

METRICS, SCORES = "metrics.json", "scores.json"
NOT_MEASURED = "not measured"

Json = Mapping[str, Any]


def score_lines(metrics: Json | None, member: str) -> list[str]:
    """Return what an evaluation found about one model: the headline, by answer and by group.

    Args:
        metrics: What ``medssl evaluate`` left in ``metrics.json``.
        member: What it calls the model.
    """
    metric, found = headline_scores(metrics, member)
    if metrics is None or not found:
        return []
    title = next(about["title"] for about in metrics["shown"] if about["column"] == metric)
    lines = [f"{title}, {name}: {_interval(value)}" for name, value in found.items()]
    about = (
        f"Over {metrics['patients']} patients held aside ({metrics['split']}), with a "
        f"{metrics['confidence']:.0%} bootstrap interval"
    )
    return [*lines, about, str(metrics["verdict"]), *_groups(metrics, title, member)]


def headline_scores(metrics: Json | None, member: str) -> tuple[str, dict[str, Any]]:
    """Return the name of an evaluation's main metric, and one model's scores by answer."""
    if metrics is None:
        return "", {}
    metric = metrics["headline"]["metric"]
    return metric, metrics["scores"][metric].get(member, {})


def probe_lines(report: Json) -> list[str]:
    """Return what ``medssl probe`` found about every encoder that has learned something."""
    told = [
        f"{encoder}, {name.replace('_', ' ')}: {_interval(score)}{_beyond(score)}"
        for encoder, of_one in report["encoders"].items()
        for name, score in of_one["scores"].items()
    ]
    return [*told, f"Frozen, over {report['patients']} patients. {report['verdict']}"]


def zero_shot_lines(report: Json) -> list[str]:
    """Return what ``medssl zeroshot`` found: of all findings, and of each."""
    told = [
        f"AUROC of {name} from words alone: {_interval(found['auroc'])}"
        for name, found in report["findings"].items()
        if found["auroc"]
    ]
    mean = report["mean_auroc"]
    overall = [f"AUROC from words alone, mean of findings: {_interval(mean)}"] if mean else []
    about = (
        f"Over {report['studies']} studies of {report['patients']} patients ({report['split']}), "
        f"with a {report['confidence']:.0%} bootstrap interval"
    )
    return [*overall, *told, about]


def _groups(metrics: Json, title: str, member: str) -> Iterator[str]:
    groups = metrics["subgroups"]
    if not groups["models"]:
        yield "Groups of patients were not compared: the data set says nothing of them."
        return
    for row in groups["models"].get(member, []):
        where = f"{title}, {row['attribute']} {row['group']} ({row['patients']} patients)"
        note = f"; {row['note']}" if row["note"] else ""
        yield f"{where}: {_interval(row)}{note}"


def _beyond(score: Json) -> str:
    difference = score.get("difference")
    return f"; beyond one that never learned: {_interval(difference)}" if difference else ""


def _interval(score: Json | None) -> str:
    value = None if score is None else score.get("value", score.get("mean"))
    if score is None or value is None:
        return NOT_MEASURED
    if score["low"] is None:
        return f"{value:.3f} (no interval)"
    return f"{value:.3f} ({score['low']:.3f} to {score['high']:.3f})"
