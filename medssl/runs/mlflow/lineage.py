"""From a model back to the library: every run names by digest what it read and what it made."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from medssl.errors import InputError
from medssl.runs.destination import Destination
from medssl.runs.mlflow.connection import connect, store_errors_explained

_MADE_AS = {"start": ("encoder",), "model": ("pretrained", "scratch")}
"""Names of an input whose maker calls it otherwise."""
_DIGEST = re.compile(r"[0-9a-f]{32,64}")
_EXPERIMENTS_A_PAGE = 1000


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing a model comes from."""

    depth: int
    """0 for the model, 1 for what its run read, and so on."""
    what: str
    digest: str
    stage: str | None = None
    """The stage that made it; None where no run of the store did."""
    run_id: str | None = None
    parent_run_id: str | None = None
    started_ms: int | None = None


def lineage(to: Destination, uri: str) -> list[Step]:
    """Return what the registered model ``uri`` comes from, each thing below what was made of it.

    Args:
        to: The store.
        uri: ``models:/name@alias``, ``models:/name/version``, or ``models:/name`` for the latest.

    Raises:
        StoreError: The store cannot be reached, or has no such model.
    """
    with store_errors_explained(to):
        client = connect(to.uri)
        version = model_version(client, uri)
        return walk(client, version.run_id, version.tags.get("medssl.digest", ""))


def model_version(client: Any, uri: str) -> Any:
    """Return MLflow's version of the registered model ``uri``."""
    match = re.fullmatch(r"models:/([^/@:]+)(?:@([\w-]+)|/(\d+))?", uri)
    if match is None:
        raise InputError(
            f"{uri!r} does not name a registered model",
            hint="write models:/NAME@ALIAS or models:/NAME/VERSION",
        )
    name, alias, number = match.groups()
    if alias:
        return client.get_model_version_by_alias(name, alias)
    if number:
        return client.get_model_version(name, number)
    found = client.search_model_versions(f"name = '{name}'")
    if not found:
        raise InputError(f"no version of {name!r} is registered", hint="see `medssl register`")
    return max(found, key=lambda version: int(version.version))


def walk(client: Any, run_id: str, digest: str) -> list[Step]:
    """Return the model of ``digest`` that the run made, and what it comes from, depth first."""
    run = client.get_run(run_id)
    return list(_walk(client, _Maker(client), run, Step(depth=0, what="model", digest=digest)))


def _walk(client: Any, maker: "_Maker", run: Any, step: Step) -> Iterator[Step]:
    if run is None:
        yield step
        return
    yield Step(
        depth=step.depth,
        what=step.what,
        digest=step.digest,
        stage=run.data.tags.get("medssl.stage"),
        run_id=run.info.run_id,
        parent_run_id=run.data.tags.get("mlflow.parentRunId"),
        started_ms=run.info.start_time,
    )
    for what, digest in _inputs(client, run).items():
        if digest not in maker.seen:
            maker.seen.add(digest)
            below = Step(depth=step.depth + 1, what=what, digest=digest)
            yield from _walk(client, maker, maker.of(what, digest), below)


def _inputs(client: Any, run: Any) -> dict[str, str]:
    """Return what a run read; a run under a stage read what the stage did."""
    read = {
        key.removeprefix("input."): value
        for key, value in sorted(run.data.params.items())
        if key.startswith("input.") and _DIGEST.fullmatch(value)
    }
    above = run.data.tags.get("mlflow.parentRunId")
    return read or (_inputs(client, client.get_run(above)) if above else {})


class _Maker:
    """Finds the run that made something, anywhere in the store."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._experiments = [e.experiment_id for e in _experiments(client)]
        self.seen: set[str] = set()

    def of(self, what: str, digest: str) -> Any:
        """Return the latest run that made what has this digest, or None."""
        for name in (what, *_MADE_AS.get(what, ())):
            found = self._client.search_runs(
                self._experiments,
                f"tags.`output.{name}` = '{digest}'",
                max_results=1,
                order_by=["attributes.start_time DESC"],
            )
            if found:
                return found[0]
        return None


def _experiments(client: Any) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_experiments(max_results=_EXPERIMENTS_A_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
