"""The evaluation for people: one HTML page that needs nothing else."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from medssl import __version__
from medssl.evaluation.kinds.base import Picture
from medssl.evaluation.page import inline, write_page
from medssl.evaluation.robustness import ROBUSTNESS
from medssl.labelled.cases import LabelledSet
from medssl.runs.manifest import now

_FACTS: Final = (
    ("strategy", "strategy"),
    ("steps", "steps"),
    ("train_cases", "training cases"),
    ("monitor", "weights chosen by"),
    ("encoder_digest", "pretrained encoder"),
    ("weights_digest", "weights"),
)
_ALIKE: Final = (
    "The twin from scratch is the same network with the same seed, patches and steps; only the "
    "encoder's first weights differ."
)
_UNLIKE: Final = (
    "The pretrained model was adapted by the strategy {first}, its twin from scratch by {second}: "
    "what begins at random has nothing worth keeping frozen. Apart from that, and from the "
    "encoder's first weights, network, seed, patches and steps are the same."
)


def write_report(
    folder: Path,
    labelled: LabelledSet,
    metrics: Mapping[str, Any],
    pictures: Sequence[Picture],
) -> None:
    """Write ``report.html`` into ``folder``, where the pictures already are.

    Pictures are inside the page; names from the data set are escaped.
    """
    shown = [{**picture._asdict(), **inline(folder / picture.file)} for picture in pictures]
    write_page(
        folder / "report.html",
        "report.html",
        dataset=labelled,
        metrics=metrics,
        headline=_headline(metrics),
        twins=twins_told(metrics["provenance"]),
        pictures={
            "scans": [picture for picture in shown if picture["shows_patients"]],
            "charts": [picture for picture in shown if not picture["shows_patients"]],
        },
        robustness_file=ROBUSTNESS,
        facts_of_models=_FACTS,
        date=now()[:10],
        version=__version__,
    )


def _headline(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    column = metrics["headline"]["metric"]
    found: Mapping[str, Any] = next(m for m in metrics["shown"] if m["column"] == column)
    return found


def twins_told(provenance: Sequence[Mapping[str, Any]]) -> str:
    """Return what the twins share and what they do not; "" where there are none."""
    pairs = {
        (run["models"]["pretrained"].get("strategy"), run["models"]["scratch"].get("strategy"))
        for run in provenance
        if {"pretrained", "scratch"} <= set(run["models"])
    }
    if not pairs:
        return ""
    first, second = (sorted({str(name) for name in names}) for names in zip(*pairs, strict=True))
    if first == second:
        return _ALIKE
    return _UNLIKE.format(first=" and ".join(first), second=" and ".join(second))
