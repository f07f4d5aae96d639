"""What a run is looked for by in MLflow: its parts, what it reads, and the code it ran."""

from collections.abc import Mapping
from typing import Any

from medssl.runs.manifest import Manifest
from medssl.runs.tracker import Tracker

DATASETS = ("dataset", "store", "selection", "catalog", "files", "scans")
"""Inputs of stages that are data, which MLflow shows as datasets of the run."""
PARENTS = {"encoder": "parent.encoder", "start": "parent.checkpoint", "model": "parent.model"}
"""Inputs of stages that are weights -> the tag with their digest."""
PARTS = ("method", "encoder", "task", "strategy", "format")
"""Sections of a configuration that choose a component; a tag has the component's name."""
_CONTEXTS = {"evaluate": "evaluation", "predict": "prediction"}


def record_provenance(tracker: Tracker, manifest: Manifest) -> None:
    """Record tags and datasets of the run that ``manifest`` describes: digests, never paths."""
    tracker.set_tags(
        _source(manifest.stage, manifest.versions)
        | _parts(manifest.config)
        | {f"dataset.{name}": manifest.inputs[name] for name in DATASETS if name in manifest.inputs}
        | {tag: manifest.inputs[name] for name, tag in PARENTS.items() if name in manifest.inputs}
    )
    for name in DATASETS:
        if name in manifest.inputs:
            context = _CONTEXTS.get(manifest.stage, "training")
            tracker.log_dataset(name, manifest.inputs[name], context)


def _source(stage: str, versions: Mapping[str, str]) -> dict[str, str]:
    """Return what MLflow's page shows as a run's source and version."""
    tags = {"mlflow.source.name": f"medssl {stage}", "mlflow.source.type": "LOCAL"}
    commit = versions.get("git_commit", "unknown").removesuffix("-dirty")
    return tags if commit == "unknown" else tags | {"mlflow.source.git.commit": commit}


def _parts(config: Mapping[str, Any]) -> dict[str, str]:
    sections = {part: config.get(part) for part in PARTS}
    return {
        part: str(section["name"])
        for part, section in sections.items()
        if isinstance(section, Mapping) and isinstance(section.get("name"), str)
    }
