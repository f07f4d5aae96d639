"""A run read back from an MLflow store, as a record like that of a run folder."""

import math
import re
import sys
from typing import Any

from medssl.errors import InputError
from medssl.runs.destination import Destination
from medssl.runs.mlflow.connection import connect, store_errors_explained
from medssl.runs.mlflow.lineage import model_version
from medssl.runs.record import Record

_RUN = re.compile(r"(?:runs:/)?([0-9a-f]{32})")
_DIGESTS = ("input.", "output.")
_SUMMARY = "summary/"


def is_run(text: str) -> bool:
    """Return whether ``text`` can only name something in an MLflow store."""
    return bool(_RUN.fullmatch(text) or text.startswith(("runs:/", "models:/")))


def read_run(to: Destination, text: str) -> Record:
    """Return the record of an MLflow run.

    Args:
        to: The store.
        text: A run's id, ``runs:/ID``, or ``models:/NAME@ALIAS`` for the run behind a model.

    Raises:
        InputError: ``text`` is none of these.
        StoreError: The store cannot be reached, or has no such run.
    """
    with store_errors_explained(to):
        client = connect(to.uri)
        run = client.get_run(_run_id(client, text))
        return _record(client, run)


def finite(value: float) -> float:
    """Return ``value``, or the infinity in whose place MLflow's database holds the largest number.

    (``sanitize_metric_value`` of MLflow's SqlAlchemyStore.)
    """
    return math.copysign(math.inf, value) if abs(value) == sys.float_info.max else value


def _run_id(client: Any, text: str) -> str:
    if text.startswith("models:/"):
        return str(model_version(client, text).run_id)
    match = _RUN.fullmatch(text)
    if match is None:
        raise InputError(f"{text!r} does not name an MLflow run", hint="write runs:/ and its id")
    return match.group(1)


def _record(client: Any, run: Any) -> Record:
    params, tags, metrics = run.data.params, run.data.tags, run.data.metrics
    digests = {k: v for k, v in {**params, **tags}.items() if k.startswith(_DIGESTS)}
    curves = {
        name: [
            (point.step, finite(point.value))
            for point in client.get_metric_history(run.info.run_id, name)
        ]
        for name in metrics
        if not name.startswith((_SUMMARY, "system/"))
    }
    return Record(
        label=f"{run.info.run_name} {run.info.run_id[:8]}",
        stage=tags.get("medssl.stage", "unknown"),
        settings={key: value for key, value in params.items() if key not in digests},
        digests=digests | {"git_commit": tags.get("environment.git_commit", "unknown")},
        numbers=_final(metrics),
        curves={name: sorted(points) for name, points in curves.items()},
    )


def _final(metrics: dict[str, float]) -> dict[str, float]:
    """Return what the stage said at its end; of a run that has not ended, the latest numbers."""
    said = {k.removeprefix(_SUMMARY): v for k, v in metrics.items() if k.startswith(_SUMMARY)}
    latest = {name: v for name, v in metrics.items() if not name.startswith("system/")}
    return {name: finite(value) for name, value in (said or latest).items()}
