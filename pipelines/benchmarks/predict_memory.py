"""Memory and time of a prediction on a large CT, beside MONAI's sliding window on its own.

    python -m pipelines.benchmarks.predict_memory --out runs/predict_memory.json

A real CT is enlarged to 512 x 512 x 300 voxels. `medssl predict` and a script that is nothing but
MONAI segment it with the same network and window, each in a process of its own, whose peak of
resident memory the system tells. The network is not trained: its masks are noise, so every class
is possible everywhere, which is the dearest case. Both must give the same voxels. The claim is on
the peak of `medssl predict`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import nibabel
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose
from rich.console import Console
from rich.table import Table

from medssl.data.preprocessing import PreprocessingConfig
from medssl.io.nifti import read_nifti, write_nifti
from medssl.models.encoders.segresnet import SegResNetEncoder
from medssl.runs.environment import describe
from medssl.runs.folder import read_json
from medssl.tasks.segmentation import Segmentation
from medssl.training.task_model import (
    DESCRIPTION,
    ModelDescription,
    load_task_model,
    save_task_model,
)
from pipelines.benchmarks.crop_read import SCAN, enlarge

CLAIM_GB: Final = 6.0
SPACING_MM: Final = (0.8, 0.8, 1.25)
"""Of the enlarged scan: a field of view of 41 x 41 x 38 cm where it has 512 x 512 x 300 voxels."""
OURS, PLAIN = "medssl predict", "MONAI's SlidingWindowInferer"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; 1 if too much memory is used or voxels differ."""
    options = _options(arguments)
    if options.plain:
        run_monai(*options.plain)
        return 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        scan, model = write_scan(folder, options), write_model(folder / "model", options)
        mask = folder / "plain.nii.gz"
        commands = {
            OURS: ["medssl.cli.main", "predict", model, scan, "--out", folder / "out",
                   "tracking.enabled=false", "device=cpu"],
            PLAIN: ["pipelines.benchmarks.predict_memory", "--plain", model, scan, mask],
        }  # fmt: skip
        measured = {name: peak(command) for name, command in commands.items()}
        different = differing(folder / "out" / "scan_seg.nii.gz", mask)
    result = {
        "shape": options.shape,
        "classes": options.classes,
        "window": options.window,
        "network_spacing_mm": options.spacing,
        "measured": measured,
        "voxels_different": different,
        "claim": f"`{OURS}` stays under {CLAIM_GB:g} GB and gives the same voxels",
        "environment": describe(),
    }
    result["holds"] = measured[OURS]["peak_gb"] < CLAIM_GB and different == 0
    show(result)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if result["holds"] else 1


def write_scan(folder: Path, options: argparse.Namespace) -> Path:
    """Write the enlarged scan."""
    volume = enlarge(read_nifti(options.scan, "CT"), options.shape)
    path = folder / "scan.nii.gz"
    write_nifti(volume.array_IJK, np.diag([-SPACING_MM[0], -SPACING_MM[1], SPACING_MM[2], 1]), path)
    return path


def write_model(folder: Path, options: argparse.Namespace) -> Path:
    """Write a task model whose weights are drawn."""
    torch.manual_seed(0)
    labels = ("background", *(f"structure {number}" for number in range(1, options.classes)))
    task = Segmentation.Config().build(labels=labels)
    encoder = SegResNetEncoder.Config(width=options.width).build()
    network, definition = task.network(encoder)
    window = (options.window,) * 3
    steps = PreprocessingConfig.model_validate(
        {"spacing_mm": (options.spacing,) * 3, "intensity": {"name": "ct"}}
    )
    description = ModelDescription(
        title="weights that were drawn",
        task=task.config.model_dump(mode="json"),
        encoder=encoder.config.model_dump(mode="json"),
        network_def=definition,
        labels=labels,
        modality="CT",
        spacing_mm=steps.spacing_mm,
        patch_voxels=window,
        preprocessing=tuple(steps.specs()),
        inferer=task.inferer_spec(window),
        postprocessing=tuple(task.postprocessing_specs()),
    )
    folder.mkdir()
    save_task_model(folder, network, description)
    return folder


def peak(command: Sequence[object]) -> dict[str, float]:
    """Run a module in a process of its own; return its peak memory and its seconds."""
    started = time.monotonic()
    words = [sys.executable, "-m", *map(str, command)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)  # noqa: S603  our own modules
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}")
    return {
        "peak_gb": used.ru_maxrss * 1024 / 1e9,
        "seconds": time.monotonic() - started,
        "cpu_seconds": used.ru_utime + used.ru_stime,
    }


def run_monai(model: str, scan: str, mask: str) -> None:
    """Segment ``scan`` as MONAI's own documentation does, with nothing of the stage."""
    about = read_json(Path(model) / DESCRIPTION)
    parser = ConfigParser(
        {
            "preprocessing": {"_target_": "Compose", "transforms": about["preprocessing"]},
            "inferer": about["inferer"],
            "postprocessing": {"_target_": "Compose", "transforms": about["postprocessing"]},
        }
    )
    network = load_task_model(Path(model)).network
    before: Compose = parser.get_parsed_content("preprocessing")
    data: Any = before({"image": scan})
    with torch.no_grad():
        data["pred"] = parser.get_parsed_content("inferer")(data["image"][None], network)[0]
    numbers = parser.get_parsed_content("postprocessing")(data)["pred"][0].numpy().astype(np.uint8)
    write_nifti(numbers, read_nifti(Path(scan), "CT").affine_ras, Path(mask))


def differing(ours: Path, theirs: Path) -> int:
    """Return in how many voxels two masks differ."""
    images: list[Any] = [nibabel.load(path) for path in (ours, theirs)]
    one, other = (np.asanyarray(image.dataobj) for image in images)
    return int(np.count_nonzero(one != other))


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    size = " x ".join(map(str, result["shape"]))
    table = Table(title=f"{size} voxels, {result['classes']} classes, window {result['window']}")
    for heading in ("", "peak memory", "wall clock", "processor"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, found in result["measured"].items():
        seconds, cpu = (f"{found[key]:.0f} s" for key in ("seconds", "cpu_seconds"))
        table.add_row(name, f"{found['peak_gb']:.2f} GB", seconds, cpu)
    console = Console()
    console.print(table)
    console.print(f"voxels that differ: {result['voxels_different']}")
    console.print(f"{result['claim']}: {'yes' if result['holds'] else 'NO'}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scan", type=Path, default=SCAN)
    parser.add_argument("--shape", type=int, nargs=3, default=[512, 512, 300])
    parser.add_argument("--classes", type=int, default=4)
    parser.add_argument("--width", type=int, default=16, help="of the encoder's first stage")
    parser.add_argument("--window", type=int, default=96)
    parser.add_argument("--spacing", type=float, default=1.5, help="mm, of the network's grid")
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--plain", nargs=3, metavar=("MODEL", "SCAN", "MASK"), help="MONAI only")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
