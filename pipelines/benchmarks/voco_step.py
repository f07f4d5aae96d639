"""What one pretraining step of VoCo costs beside the published code.

    python -m pipelines.benchmarks.voco_step --out runs/voco_step.json
    python -m pipelines.benchmarks.voco_step --reference DIR    # a copy of Large-Scale-Medical
    python -m pipelines.benchmarks.voco_step --device cuda --precision bf16 --compile

One step is forward, backward and optimiser of the large-scale variant on its base network
(Swin UNETR, 48 channels). ``DIR`` is a local copy of github.com/Luffy03/Large-Scale-Medical; its
own module is driven with our crops, the same threads, the same optimiser and the same settings of
the memory allocator. It runs as its script starts it, with activations computed twice to save
memory, and once more without. Every side is a process of its own, in turns, and CPU seconds (user
and system) are compared. In front of them both networks get the same weights and crops, and their
embeddings are compared.

On a GPU crops per second are printed, and at 48 channels and 64^3 voxels which share of the card's
measured rate of bf16 matrix products they are; there the published code runs in fp16 and scales
its loss, as its script does.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from medssl.runs.environment import describe

BASES: Final = 9
OURS: Final = "ours"
PUBLISHED: Final = "published"
LEAN: Final = "published, activations kept"
CLAIM: Final = 0.8
GPU_CLAIM: Final = 3.0
CLOSE: Final = 1e-5
ALLOCATOR: Final = {  # glibc returns large buffers to the system at once, and fetches them anew
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "1000000000",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; 1 if a step costs more than 0.8 of the published one."""
    options = _options(arguments)
    reason = missing(options)
    sides = [OURS] if reason else [OURS, PUBLISHED, LEAN]
    readings: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    if options.device == "cuda" and not _has_gpu():
        reason, readings = "no GPU is visible here", {}
    for _ in range(options.rounds):
        for side, found in readings.items():
            found.append(measure(side, options))
    rows = {side: summarise(found) for side, found in readings.items()}
    result = {
        "volumes": options.volumes,
        "crops": [options.crops, options.bases],
        "crop_voxels": options.crop,
        "feature_size": options.features,
        "device": options.device,
        "threads": options.threads,
        "allocator": ALLOCATOR,
        "rows": rows,
        "skipped": reason,
        **({} if reason else judge(rows, options)),
        "environment": describe(),
    }
    show(result)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if result.get("holds", True) else 1


def missing(options: argparse.Namespace) -> str | None:
    """Return why the published code is not measured; None if it is."""
    if options.volumes > 1 and options.bases != BASES:
        return f"with several volumes the published code takes {BASES} base crops of each"
    if options.reference is None:
        return "no --reference: a local copy of github.com/Luffy03/Large-Scale-Medical"
    if not (options.reference / "Self-supervised/models/voco_head.py").is_file():
        return f"{options.reference} holds no Self-supervised/models/voco_head.py"
    return None


def measure(side: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return what a process of its own measured."""
    order = {
        "side": side,
        "reference": str(options.reference) if options.reference else None,
        "volumes": options.volumes,
        "crops": options.crops,
        "bases": options.bases,
        "crop": options.crop,
        "features": options.features,
        "steps": options.steps,
        "device": options.device,
        "precision": options.precision,
        "compile": options.compile,
        "threads": options.threads,
    }
    done = subprocess.run(  # noqa: S603 - our own module
        [*options.prefix.split(), sys.executable, "-m", "pipelines.benchmarks.voco_step_side"],
        input=json.dumps(order),
        env=os.environ | ALLOCATOR | {"OMP_NUM_THREADS": str(options.threads)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        why = "no memory was left" if done.returncode == -signal.SIGKILL else done.stderr[-3000:]
        raise RuntimeError(f"the step of {side} failed: {why}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def summarise(readings: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the median of every number over the rounds, and every round's seconds."""
    names = [name for name, value in readings[0].items() if value is not None]
    row: dict[str, Any] = {name: median(r[name] for r in readings) for name in names}
    return row | {"cpu_s_per_round": [round(r["cpu_s"], 3) for r in readings]}


def judge(rows: dict[str, dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """Return how the sides compare, and whether that is what was promised."""
    same = all(abs(rows[OURS]["check"] / row["check"] - 1) <= CLOSE for row in rows.values())
    if options.device == "cuda":
        ratio = rows[OURS]["crops_per_s"] / rows[PUBLISHED]["crops_per_s"]
        claim = f"at least {GPU_CLAIM} times the crops per second of the published code"
        return {
            "ratio": ratio,
            "same_embeddings": same,
            "claim": claim,
            "holds": same and ratio >= GPU_CLAIM,
        }
    ratios = {side: rows[OURS]["cpu_s"] / rows[side]["cpu_s"] for side in (PUBLISHED, LEAN)}
    return {
        "ratio": ratios,
        "same_embeddings": same,
        "claim": f"at most {CLAIM} of the published code's CPU seconds, however it runs",
        "holds": same and max(ratios.values()) <= CLAIM,
    }


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    random, base = result["crops"]
    shape = f"{result['volumes']} x ({random} + {base}) crops of {result['crop_voxels']}^3"
    table = Table(title=f"one VoCo step, {shape}, {result['device']}, threads {result['threads']}")
    columns = ("side", "CPU s", "wall s", "crops/s", "GiB", "of matrix rate", "check")
    for column in columns:
        table.add_column(column, justify="left" if column == "side" else "right", no_wrap=True)
    no_share = "not counted" if result["device"] == "cuda" else "GPU only"
    for side, row in result["rows"].items():
        share = f"{row['matrix_share']:.0%}" if "matrix_share" in row else no_share
        numbers = [f"{row[name]:.3g}" for name in ("cpu_s", "wall_s", "crops_per_s", "peak_gib")]
        table.add_row(side, *numbers, share, f"{row['check']:.7g}")
    console = Console(width=100)
    console.print(table)
    if result["skipped"]:
        console.print(f"nothing to compare with: {result['skipped']}")
        return
    console.print(f"ratio: {json.dumps(result['ratio'])}")
    if not result["same_embeddings"]:
        console.print("the sides embed the same crop differently, so nothing is shown by the ratio")
    console.print(f"{result['claim']}: {'yes' if result['holds'] else 'NO'}")


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--reference", type=Path, help="a copy of Large-Scale-Medical")
    parser.add_argument("--volumes", type=int, default=1)
    parser.add_argument("--crops", type=int, default=1, help="random crops per volume")
    parser.add_argument("--bases", type=int, default=9, help="fewer than 9 for one volume only")
    parser.add_argument("--crop", type=int, default=64, help="voxels along each side of a crop")
    parser.add_argument("--features", type=int, default=48, help="channels of the finest map")
    parser.add_argument("--steps", type=int, default=1, help="measured steps, after a first one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of ours")
    parser.add_argument("--compile", action="store_true", help="compile ours")
    parser.add_argument("--prefix", default="", help="how processes start, such as 'chrt -r 1'")
    parser.add_argument("--out", type=Path, help="where to write the numbers as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
