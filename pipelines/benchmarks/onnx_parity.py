"""How far onnxruntime's numbers are from PyTorch's, for every encoder and for a task model.

    python -m pipelines.benchmarks.onnx_parity --out runs/onnx_parity.json

Each network has random weights, so that no output is zero by training's grace. It is written by
the format `onnx` and run on five shapes: batches of one to three, and grids of two or three
strides, or batches of one to five where the graph is for one grid. A difference is that of an
output, relative to the output's largest number; at most 1e-4 is allowed.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from medssl.config.choice import available, find
from medssl.export.formats.onnx import MODEL, TOLERANCE, Onnx, check_packages
from medssl.export.model_card import CardConfig
from medssl.export.verify import VerificationError
from medssl.models.encoders.base import Encoder
from medssl.models.weights import save_encoder
from medssl.runs.environment import describe
from medssl.runs.folder import read_json
from medssl.tasks.segmentation import Segmentation
from medssl.training.task_model import ModelDescription, save_task_model

ENCODERS = "medssl.models.encoders"
TASK, TASK_ENCODER, LABELS = "segmentation", "segresnet", ("background", "organ", "lesion")
PATCH = (32, 32, 32)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; 1 if a graph's numbers are not the network's."""
    options = _options(arguments)
    check_packages()
    torch.set_num_threads(1)
    names = options.networks or [*available(ENCODERS), TASK]
    rows = {name: measure(name, tiny=options.tiny) for name in names}
    result = {
        "rows": rows,
        "claim": f"at most {TOLERANCE:g} on every shape",
        "holds": all("differs" not in row for row in rows.values()),
        "environment": describe(),
    }
    show(rows)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if result["holds"] else 1


def measure(name: str, *, tiny: bool) -> dict[str, Any]:
    """Return what was found of one network, or in ``differs`` why its graph is not kept."""
    with tempfile.TemporaryDirectory() as scratch:
        run, folder = Path(scratch) / "run", Path(scratch) / "onnx"
        (write_task_model if name == TASK else write_encoder)(run, name, tiny=tiny)
        folder.mkdir()
        form: Onnx = Onnx.Config().build()
        started = time.perf_counter()
        form.write(run, folder, CardConfig())
        written_s = time.perf_counter() - started
        told = {
            "space": read_json(folder / "config.json")["input"]["space"],
            "bytes": sum(path.stat().st_size for path in folder.glob(f"{MODEL}*")),
            "write_s": round(written_s, 1),
        }
        try:
            return told | form.verify(run, folder)
        except VerificationError as error:
            return told | {"differs": error.problem}


def write_encoder(folder: Path, name: str, *, tiny: bool) -> None:
    """Write an encoder folder of random weights."""
    save_encoder(folder, _encoder(name, tiny=tiny))


def write_task_model(folder: Path, name: str, *, tiny: bool) -> None:
    """Write a segmentation of random weights, as a finetuning leaves it."""
    encoder = _encoder(TASK_ENCODER, tiny=tiny)
    task: Segmentation = find("medssl.tasks", name).Config().build(labels=LABELS)
    network, definition = task.network(encoder)
    _draw(network)
    described = ModelDescription(
        title="Segmentation of random weights",
        task=task.config.model_dump(mode="json"),
        encoder=encoder.config.model_dump(mode="json"),  # type: ignore[operator, union-attr]
        network_def=definition,
        labels=LABELS,
        modality="CT",
        spacing_mm=(1.0, 1.0, 1.0),
        patch_voxels=PATCH,
        preprocessing=(),
        inferer=task.inferer_spec(PATCH),
        postprocessing=(),
    )
    folder.mkdir()
    save_task_model(folder, network, described)


def _encoder(name: str, *, tiny: bool) -> Encoder:
    config = find(ENCODERS, name).Config
    encoder: Encoder = (config.tiny() if tiny else config()).build()  # type: ignore[attr-defined]
    _draw(encoder)
    return encoder


def _draw(network: torch.nn.Module) -> None:
    torch.manual_seed(0)
    for weight in network.parameters():
        if weight.ndim > 1:
            torch.nn.init.kaiming_normal_(weight, nonlinearity="linear")


def show(rows: dict[str, dict[str, Any]]) -> None:
    """Print a table of every network and shape."""
    table = Table(title="onnxruntime beside PyTorch")
    for column in ("network", "grid", "opset, IR", "MB", "B x C x grid", "relative difference"):
        table.add_column(column)
    for name, row in rows.items():
        space = row["space"]
        grid = "fixed" if "fixed" in space else f"multiples of {space['multiple_of'][0]}"
        head = [name, grid, f"{row.get('opset')}, {row.get('ir_version')}"]
        head.append(f"{row['bytes'] / 1e6:.1f}")
        for shape, difference in row.get("relative_difference", {}).items():
            table.add_row(*head, shape, f"{difference:.1e}")
            head = [""] * len(head)
        if "differs" in row:
            table.add_row(*head, "", row["differs"])
    console = Console()
    console.print(table)
    console.print("; ".join(sorted({row["opened_by"] for row in rows.values() if "opset" in row})))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--networks", nargs="*", help="encoders by name, and segmentation; or all")
    parser.add_argument("--tiny", action="store_true", help="networks of a few weights")
    parser.add_argument("--out", type=Path, help="JSON to write")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
