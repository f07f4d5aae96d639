"""Where weights come from: runs, data and weights before them, as the run folders record it.

Nothing of a patient, a site's own words or a path is taken over: words of vocabularies, numbers
and digests alone, since an artefact is handed to strangers.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from medssl.curation.selection import finished_folder, read_kept
from medssl.data.store import CropStore
from medssl.errors import MedSSLError
from medssl.labelled.read import read_labelled
from medssl.library.catalog import read_catalog_table
from medssl.models.foreign import weights_file
from medssl.runs.folder import read_json
from medssl.runs.manifest import FILE, Manifest

NOT_STATED = "not stated"
PROVENANCE = "provenance.json"

Json = dict[str, Any]
_LEVELS_ABOVE = 4
_MOST_PARENTS = 8
_PARENTS = ("encoder_from", "start_from", "weights")
_SETTINGS = (
    "method", "encoder", "task", "strategy", "data", "loader", "optimizer", "schedule", "engine",
    "preprocessing", "augment", "patch_voxels", "splits", "encoder_learning_rate", "seed",
)  # fmt: skip
"""Sections of a configuration that say how weights were made."""
_UNKNOWN = frozenset({None, ""})
_COUNTED = ("modality", "body_part", "manufacturer", "field_strength_t", "sex", "age_band")
"""Columns of the catalog whose counts say what the data were."""


def trace(run: Path, *, generations: int = _MOST_PARENTS) -> Json:
    """Return what is recorded about ``run``, its data and the weights it began with.

    What a folder does not say, or what is no longer there, is left out; ``data`` are those whose
    digest is still the one that the run read.
    """
    folder = stage_folder(run)
    manifest = _manifest(folder)
    if manifest is None:
        return _exported(run)
    found: Json = {
        "stage": manifest.stage,
        "finished_at": manifest.finished_at,
        "config_digest": manifest.config_digest,
        "inputs": manifest.inputs,
        "outputs": manifest.outputs,
        "settings": settings(manifest.config),
        "versions": manifest.versions,
        "data": _data(manifest),
    }
    parent = _parent(manifest.config)
    if parent is not None and generations:
        found["parent"] = trace(parent, generations=generations - 1)
    return found


def stage_folder(run: Path) -> Path:
    """Return the folder of the stage that left ``run``: the next one up with a manifest."""
    resolved = run.resolve()
    for above in (resolved, *list(resolved.parents)[:_LEVELS_ABOVE]):
        if (above / FILE).is_file():
            return above
    return resolved


def settings(config: Mapping[str, Any]) -> Json:
    """Return the sections of a configuration that say how weights were made, without paths."""
    return {name: _without_paths(config[name]) for name in _SETTINGS if config.get(name)}


def lineage(found: Mapping[str, Any]) -> list[Json]:
    """Return a trace and those of the weights before it, the newest first."""
    line, now = list[Json](), dict(found)
    while now:
        line.append(now)
        now = dict(now.get("parent") or {})
    return line


def _without_paths(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {key: _without_paths(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_without_paths(value) for value in tree]
    return "a path" if isinstance(tree, str) and ("/" in tree or "\\" in tree) else tree


def _manifest(folder: Path) -> Manifest | None:
    try:
        return Manifest.read(folder)
    except MedSSLError:
        return None


def _exported(run: Path) -> Json:
    """Return what an artefact says of its own origin, the weights' own digest where it is none."""
    path = run / PROVENANCE
    try:
        return dict(read_json(path)["origin"]) if path.is_file() else {}
    except (ValueError, KeyError, TypeError):
        return {}


def _parent(config: Mapping[str, Any]) -> Path | None:
    """Return the folder of the weights that a run began with."""
    for name in _PARENTS:
        value = config.get(name)
        value = value.get("weights") if isinstance(value, Mapping) else value
        if isinstance(value, str) and Path(value).exists():
            path = Path(value)
            return path if path.is_dir() else weights_file(path).parent
    return None


def _data(manifest: Manifest) -> Json:
    """Return what is known about the data that a run read: a crop store, or a labelled set."""
    store, dataset = manifest.config.get("store"), manifest.config.get("dataset")
    if isinstance(store, str):
        return _of_store(Path(store), manifest.inputs.get("store", ""))
    if isinstance(dataset, str) and Path(dataset).exists():
        layout = str(manifest.config.get("layout") or "auto")
        return _of_labelled(Path(dataset), layout, manifest.inputs.get("dataset", ""))
    return {}


def _of_labelled(path: Path, layout: str, digest: str) -> Json:
    try:
        labelled = read_labelled(path, layout)
    except MedSSLError:
        return {}
    if labelled.digest != digest:
        return {}
    about = [case.about for case in labelled.cases]
    known = {name: {row[name] for row in about if row.get(name)} for name in ("site", "scanner")}
    return {
        "name": labelled.name,
        "licence": labelled.licence or NOT_STATED,
        "modality": labelled.modality,
        "cases": len(labelled.cases),
        "patients": len({case.patient_key for case in labelled.cases}),
        **{f"{name}s": len(values) for name, values in known.items() if values},
    }


def _of_store(path: Path, digest: str) -> Json:
    try:
        store = CropStore(path)
    except (MedSSLError, OSError):
        return {}
    if store.digest != digest:
        return {}
    scans = store.keys()
    entries = [store.entry(key) for scan in scans for key in store.views(scan)]
    found: Json = {
        "volumes": len(entries),
        "patients": len({entry.patient_key for entry in entries}),
        "spacing_mm": list(store.spacing_mm),
        "splits": dict(Counter(entry.split for entry in entries)),
        "modality": dict(Counter(entry.modality for entry in entries)),
        "gigavoxels": round(sum(_voxels(entry.shape) for entry in entries) / 1e9, 3),
    }
    contrasts = Counter(entry.contrast for entry in entries if entry.contrast)
    made = _manifest(path)
    selected = _of_selection(made) if made is not None else {}
    return {**found, **({"contrast": dict(contrasts)} if contrasts else {}), **selected}


def _voxels(shape: tuple[int, int, int]) -> int:
    i, j, k = shape
    return i * j * k


def _of_selection(prepared: Manifest) -> Json:
    """Return how the selection of a crop store was curated, and what the catalog says of it."""
    library, name = prepared.config.get("library"), prepared.config.get("selection")
    if not isinstance(library, str) or not isinstance(name, str):
        return {}
    try:
        folder = finished_folder(Path(library), name)
        curated = Manifest.read(folder)
        kept = read_kept(folder)
        catalog = read_catalog_table(Path(library), ["volume_key", "scanner_key", *_COUNTED])
    except (MedSSLError, OSError):
        return {}
    if curated is None or curated.outputs.get("selection") != prepared.inputs.get("selection"):
        return {}  # made anew since
    return {"curation": _curation(curated), **_counted(kept, catalog)}


def _curation(curated: Manifest) -> Json:
    rules = [rule.get("name") for rule in curated.config.get("rules", [])]
    return {"rules": rules, **curated.summary}


def _counted(kept: pa.Table, catalog: pa.Table) -> Json:
    """Return how many kept volumes have each value, and how many scanners they are from."""
    rows = catalog.join(kept.select(["volume_key"]), "volume_key", join_type="inner")
    found: Json = {}
    for column in _COUNTED[1:]:
        counts = Counter(str(value) for value in rows[column].to_pylist() if value not in _UNKNOWN)
        if counts:
            found[column] = dict(counts.most_common())
    scanners = set(rows["scanner_key"].to_pylist()) - _UNKNOWN
    return {**found, "scanners": len(scanners)} if scanners else found
