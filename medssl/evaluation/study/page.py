"""A study for people: one HTML page that needs nothing else."""

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from medssl.evaluation.kinds.classification import AUROC
from medssl.evaluation.study.scores import PER_CASE, RANKED
from medssl.evaluation.summary import Metric
from medssl.runs.folder import write_text


def write_page(path: Path, report: dict[str, Any], metric: Metric, figure: Path) -> None:
    """Write the page of a study; names from the data set are escaped.

    Args:
        path: The page.
        report: What ``study.json`` holds.
        metric: The headline.
        figure: A PNG, which goes into the page.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template("page.html").render(
        report=report,
        metric=metric,
        per_patient=RANKED if metric == AUROC else PER_CASE,
        figure="data:image/png;base64," + base64.b64encode(figure.read_bytes()).decode(),
    )
    write_text(path, page)
