"""Learning curves of every pretraining method, beside the loss that a collapsed encoder reaches.

    python -m pipelines.benchmarks.learning_curves --store STORE --work runs/learning_curves
    python -m pipelines.benchmarks.learning_curves --store STORE --work W configs/pretrain/voco.yaml

Every configuration pretrains for a few hundred steps on the same store, with the smallest encoder
of the kind it names (``--own-encoder``: the one it describes). ``--crop 24`` makes all crops small,
and lets a convolutional encoder stand in for Swin UNETR, which cannot read such. The figure has one
panel for each: every part on unseen volumes, and dashed what one output for every input reaches at
best; the table has all that was recorded. Interrupted, the same command goes on; what cannot run on
this store is named with the reason.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from rich.console import Console
from rich.table import Table

from medssl.config.choice import find
from medssl.config.load import read_tree, validate
from medssl.errors import MedSSLError
from medssl.runs.environment import describe
from medssl.runs.folder import write_json
from medssl.training.curves import draw_curves, pretraining_panels
from medssl.training.pretrain import PretrainConfig, pretrain
from medssl.training.recorder import METRICS, read_metrics

CONFIGS: Final = Path(__file__).parents[2] / "configs/pretrain"
PANELS: Final = ("training", "unseen volumes")
BOUND: Final = "_constant"
Tree = dict[str, Any]
Rows = list[dict[str, float]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, draw, print a table, write JSON; 1 if no configuration could run."""
    options = _options(arguments)
    recorded: dict[str, Rows] = {}
    skipped: dict[str, str] = {}
    for path in options.configs or sorted(CONFIGS.glob("*.yaml")):
        try:
            recorded[path.stem] = train(path, options)
        except (MedSSLError, ValueError) as error:
            skipped[path.stem] = str(error)
    if recorded:
        draw(recorded, options.work / "learning_curves.png")
    result = {
        "steps": options.steps,
        "methods": {name: last_of(rows) for name, rows in recorded.items()},
        "skipped": skipped,
        "environment": describe(),
    }
    write_json(options.work / "learning_curves.json", result)
    show(result)
    return 0 if recorded else 1


def train(path: Path, options: argparse.Namespace) -> Rows:
    """Pretrain as one file says, on our store and for our steps; returns what was recorded."""
    config = validate(PretrainConfig, tree_of(path, options), where=str(path))
    torch.set_num_threads(options.threads)
    pretrain(config)
    return read_metrics(config.out / METRICS)


def tree_of(path: Path, options: argparse.Namespace) -> Tree:
    """Return the settings of a file with what this study shares in their place."""
    tree = read_tree(path, PretrainConfig)
    validate(PretrainConfig, tree, where=str(path))  # tells of mistakes in the file as it is
    tree |= {"store": options.store, "out": options.work / path.stem, "start_from": None}
    tree["tracking"] = {"enabled": False}
    tree["schedule"] = {"steps": options.steps, "warmup_steps": options.steps // 10}
    every = max(options.steps // 10, 1)
    tree["rhythm"] = {
        "record_steps": max(every // 2, 1), "validate_steps": every, "checkpoint_steps": every,
    }  # fmt: skip
    tree["engine"] = {"accelerator": options.accelerator, "precision": options.precision}
    tree["loader"] = {"volumes_per_batch": options.volumes, "workers": 0, "validation_batches": 2}
    if options.crop:
        resize_crops(tree["method"]["views"], options.crop)
        if tree["encoder"]["name"] == "swin_unetr" and options.crop % 32:  # all it can read
            tree["encoder"] = {"name": "segresnet"}
    if not options.own_encoder:
        tree["encoder"] = smallest("medssl.models.encoders", tree["encoder"], keep=("dims",))
    if options.tiny:
        tree["method"] = smallest("medssl.methods", tree["method"])
    return tree


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
    table = Table(title=f"after {result['steps']} steps")
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
    parser.add_argument("--store", type=Path, required=True, help="what `medssl prepare` wrote")
    parser.add_argument("--work", type=Path, required=True, help="runs, figure and numbers")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--volumes", type=int, default=4, help="volumes in a batch")
    parser.add_argument("--crop", type=int, help="voxels along crops, where another size is wanted")
    parser.add_argument("--own-encoder", action="store_true", help="not the smallest of its kind")
    parser.add_argument("--tiny", action="store_true", help="the smallest crops and heads as well")
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--precision", default="32-true", help="as engine.precision")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
