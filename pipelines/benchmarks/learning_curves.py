"""Learning curves of every pretraining method, beside the loss that a collapsed encoder reaches.

    python -m pipelines.benchmarks.learning_curves --data ../shared/data --work runs/learning_curves
    python -m pipelines.benchmarks.learning_curves --store STORE --work W configs/pretrain/voco.yaml
    python -m pipelines.benchmarks.learning_curves --data D --work W --settings EVERY

EVERY is every_config.yaml beside this script: each file as it is, for 20 steps, in small batches.

Every configuration pretrains for a few hundred steps on one store, changed as the settings beside
this script say: small networks, small crops, so that two cores can. ``--data`` makes the store of
all its volumes, and one of volumes that lie on one grid for the method that compares sequences.
The figure has one panel for each: every part on unseen volumes, or on those that train where there
are no others, and dashed what one output for every input reaches at best; the table has all that
was recorded. Interrupted, the same command goes on; what cannot run is named with the reason.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Self

import torch
from pydantic import Field, model_validator
from rich.console import Console
from rich.table import Table

from medssl.cli.run import user_errors_explained
from medssl.config.base import Config
from medssl.config.choice import find
from medssl.config.load import load, merge, read_tree, validate
from medssl.curation.curate import CurateConfig, curate
from medssl.data.prepare import prepare
from medssl.data.prepare_config import PrepareConfig
from medssl.errors import MedSSLError
from medssl.ingest.config import IngestConfig
from medssl.ingest.ingest import ingest
from medssl.library.catalog import read_catalog_table
from medssl.runs.environment import describe
from medssl.runs.folder import atomic_path, write_json
from medssl.training.curves import draw_curves, pretraining_panels
from medssl.training.pretrain import PretrainConfig, pretrain
from medssl.training.recorder import METRICS, read_metrics

SETTINGS: Final = Path(__file__).with_suffix(".yaml")
CONFIGS: Final = Path(__file__).parents[2] / "configs/pretrain"
PANELS: Final = ("training", "unseen volumes")
BOUND: Final = "_constant"
QUIET: Final = {"tracking": {"enabled": False}}
Tree = dict[str, Any]
Rows = list[dict[str, float]]
Positive = Annotated[int, Field(gt=0)]


class StoreSource(Config):
    """How a store is made of a folder of scans."""

    sources: tuple[str, ...]
    """Folders below that of `--data`."""
    ingest: Tree = Field(default_factory=dict)
    """Settings of `medssl ingest`."""
    curate: Tree = Field(default_factory=dict)
    """Settings of `medssl curate`."""
    prepare: Tree
    """Settings of `medssl prepare`."""
    one_frame: bool = False
    """Volumes of one patient share a frame of reference, even where they do not state it."""


class CurvesConfig(Config):
    """What is trained, at what size; the file beside this script holds the values."""

    steps: Positive
    """For each configuration that does not say otherwise."""
    crop_voxels: Positive | None
    """Along each side of every crop; local ones have half of it. Null: as each file says."""
    smallest_encoders: bool = True
    """The smallest encoder of the kind that a file names, not the one that it describes."""
    shared: Tree
    """Settings of `medssl pretrain` for all of them."""
    own: dict[str, Tree] = Field(default_factory=dict)
    """Settings for some, by the name of the file; they count most."""
    stores: dict[str, StoreSource]
    """What `--data` becomes, by the name of the store."""
    store_of: dict[str, str] = Field(default_factory=dict)
    """Which of them a configuration uses; `volumes` for the others."""
    tiny: bool = False
    """The smallest encoders, crops and heads of each kind, for tests."""

    @model_validator(mode="after")
    def _stores_are_there(self) -> Self:
        strange = {"volumes", *self.store_of.values()} - self.stores.keys()
        if strange:
            raise ValueError(f"stores has no {', '.join(sorted(strange))}: describe how it is made")
        return self


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, draw, print a table, write JSON; 1 if no configuration could run."""
    options = _options(arguments)
    with user_errors_explained():
        study = load(CurvesConfig, options.settings, options.set)
        stores = {} if options.store else make_stores(study, options.data, options.work / "stores")
    recorded: dict[str, Rows] = {}
    skipped: dict[str, str] = {}
    torch.set_num_threads(options.threads)
    for path in options.configs or sorted(CONFIGS.glob("*.yaml")):
        store = options.store or stores[study.store_of.get(path.stem, "volumes")]
        try:
            tree = tree_of(path, study, store, options.work / path.stem)
            config = validate(PretrainConfig, tree, where=str(path))
            pretrain(config)
        except (MedSSLError, ValueError) as error:
            skipped[path.stem] = str(error)
        else:
            recorded[path.stem] = read_metrics(config.out / METRICS)
    if recorded:
        draw(recorded, options.work / "learning_curves.png")
    result = {
        "settings": study.model_dump(mode="json"),
        "methods": {name: last_of(rows) for name, rows in recorded.items()},
        "skipped": skipped,
        "environment": describe(),
    }
    write_json(options.work / "learning_curves.json", result)
    show(result)
    return 0 if recorded else 1


def make_stores(study: CurvesConfig, data: Path, work: Path) -> dict[str, Path]:
    """Return the stores by their names, made where they are not there."""
    stores = {}
    for name, source in study.stores.items():
        library, stores[name] = work / name / "library", work / name / "store"
        own: Tree = {
            "sources": [str(data / folder) for folder in source.sources],
            "library": library,
            "key_file": work / name / "pseudonyms.key",
            "create_key": True,
        }
        ingest(validate(IngestConfig, source.ingest | own | QUIET, where=str(SETTINGS)))
        own = {"library": library, "name": "main"}
        curate(validate(CurateConfig, source.curate | own | QUIET, where=str(SETTINGS)))
        own = {"library": library, "selection": "main", "out": stores[name]}
        if source.one_frame:
            own["contrast_table"] = write_frames(library, work / name / "frames.csv")
        prepare(validate(PrepareConfig, source.prepare | own | QUIET, where=str(SETTINGS)))
    return stores


def write_frames(library: Path, path: Path) -> Path:
    """Write a table that puts the volumes of every patient that state no frame into one."""
    catalog = read_catalog_table(library, ["volume_key", "patient_key", "frame_key"]).to_pandas()
    unstated = catalog[catalog["frame_key"] == ""].rename(columns={"patient_key": "group"})
    with atomic_path(path) as partial:
        unstated[["volume_key", "group"]].to_csv(partial, index=False)
    return path


def tree_of(path: Path, study: CurvesConfig, store: Path, out: Path) -> Tree:
    """Return the settings of a file with those of the study in their place."""
    tree = read_tree(path, PretrainConfig)
    validate(PretrainConfig, tree, where=str(path))  # tells of mistakes in the file as it is
    own = study.own.get(path.stem, {})
    if study.crop_voxels:
        resize_crops(tree["method"]["views"], study.crop_voxels)
    steps = own.get("schedule", {}).get("steps", study.steps)
    every = max(steps // 10, 1)
    tree |= {
        "store": store,
        "out": out,
        "start_from": None,
        "schedule": {"steps": steps, "warmup_steps": steps // 10},
        "rhythm": {
            "record_steps": max(every // 2, 1), "validate_steps": every, "checkpoint_steps": every,
        },
        **QUIET,
    }  # fmt: skip
    if tree["encoder"]["name"] == "swin_unetr" and (study.crop_voxels or 0) % 32:  # all it reads
        tree["encoder"] = {"name": "segresnet"}
    if study.smallest_encoders:
        tree["encoder"] = smallest("medssl.models.encoders", tree["encoder"], keep=("dims",))
    if study.tiny:
        tree["method"] = smallest("medssl.methods", tree["method"])
    return merge(merge(tree, study.shared, PretrainConfig), own, PretrainConfig)


def resize_crops(views: Tree, voxels: int) -> None:
    """Give every crop that views name another size, and local ones half of it."""
    sizes = {"crop_voxels": voxels, "local_voxels": voxels // 2, "resize_to": None}
    for name, value in views.items():
        if isinstance(value, dict):
            resize_crops(value, voxels)
        elif name in sizes:
            views[name] = sizes[name]


def smallest(package: str, section: Tree, *, keep: tuple[str, ...] = ()) -> Tree:
    """Return the smallest component of the kind that a section names."""
    tiny: Tree = find(package, section["name"]).Config.tiny().model_dump(mode="json")  # type: ignore[attr-defined]
    return tiny | {name: section[name] for name in keep if name in section and name in tiny}


def draw(recorded: dict[str, Rows], path: Path) -> None:
    """Draw one panel for each configuration."""
    rows, panels = [], {}
    for config, own in recorded.items():
        drawn = bounded(names_of(own))
        panels[config] = [f"{config}: {name}" for name in drawn]
        for row in own:
            numbers = {f"{config}: {name}": row[name] for name in drawn if name in row}
            rows.append({"step": row["step"], **numbers})
    draw_curves(path, rows, panels)


def names_of(rows: Rows) -> list[str]:
    """Return the losses, parts and bounds among what was recorded."""
    panels = pretraining_panels(name for row in rows for name in row)
    return [name for panel in PANELS for name in panels.get(panel, [])]


def bounded(names: list[str]) -> list[str]:
    """Return the parts with a bound, and their bounds: on unseen volumes where they were scored."""
    both = [name for name in names if name.endswith(BOUND) or name + BOUND in names]
    return [name for name in both if name.startswith("val/")] or both


def last_of(rows: Rows) -> Tree:
    """Return the last value of every loss and part, and which parts fell below their bound."""
    last: dict[str, float] = {}
    for row in rows:
        last |= {name: row[name] for name in names_of([row])}
    return {
        "last": last,
        "below_constant": {
            name: value < last[name + BOUND] for name, value in last.items() if name + BOUND in last
        },
    }


def show(result: Tree) -> None:
    """Print the table."""
    table = Table(title="at the end of the training")
    for column in ("configuration", "part", "value", "a constant reaches"):
        table.add_column(column, justify="left" if column in ("configuration", "part") else "right")
    for config, found in result["methods"].items():
        last = found["last"]
        for name in (name for name in last if not name.endswith(BOUND)):
            bound = f"{last[name + BOUND]:.4f}" if name + BOUND in last else ""
            table.add_row(config, name, f"{last[name]:.4f}", bound)
    console = Console(width=100)
    console.print(table)
    for config, reason in result["skipped"].items():
        console.print(f"skipped {config}: {reason}", markup=False)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("configs", type=Path, nargs="*", help="all of configs/pretrain without any")
    scans = parser.add_mutually_exclusive_group(required=True)
    scans.add_argument("--data", type=Path, help="folder with volumes/ and dicom-series/")
    scans.add_argument("--store", type=Path, help="what `medssl prepare` wrote")
    parser.add_argument("--work", type=Path, default=Path("runs/learning_curves"))
    parser.add_argument("--settings", type=Path, default=SETTINGS)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="other settings")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
