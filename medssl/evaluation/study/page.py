"""A study for people: one HTML page that needs nothing else."""

from pathlib import Path
from typing import Any

from medssl.evaluation import page
from medssl.evaluation.kinds.classification import AUROC
from medssl.evaluation.study.scores import PER_CASE, RANKED
from medssl.evaluation.summary import Metric


def write_page(path: Path, report: dict[str, Any], metric: Metric, figure: Path) -> None:
    """Write the page of a study; names from the data set are escaped.

    Args:
        path: The page.
        report: What ``study.json`` holds.
        metric: The headline.
        figure: A PNG, which goes into the page.
    """
    over = f"{metric.title} over the number of labelled patients, pretrained and from scratch"
    curve = {**page.inline(figure), "title": over, "caption": "", "shows_patients": False}
    page.write_page(
        path,
        "study/page.html",
        report=report,
        metric=metric,
        per_patient=RANKED if metric == AUROC else PER_CASE,
        curve=curve,
    )
