"""Whether a loader worker grows: its memory over many samples from the crop store.

    python -m pipelines.benchmarks.loader_memory --out runs/loader_memory.json

One worker, as a pretraining has it, makes VoCo samples of small crops from many volumes. What is
measured is the anonymous memory of the worker, or of the process whose thread it is, as Linux tells
it: pages of files that it has mapped are the system's to take back, though USS counts them. The
first samples fill caches and are left out; over the others a line is fitted, with the interval of
its slope from blocks of readings, since neighbours are alike. The claim is on the growth that the
line shows over all that follow.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil  # type: ignore[import-untyped]
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from medssl.data.dataset import DatasetConfig
from medssl.data.grid_views import GridViews
from medssl.data.store import CropStore
from medssl.data.store_writer import write_index
from medssl.io.nifti import read_nifti
from medssl.runs.environment import describe
from medssl.training.launch import Place
from medssl.training.loaders import LoaderConfig, PretrainLoaders
from pipelines.benchmarks.crop_read import SCAN, enlarge, write_stored

CLAIM_MB: Final = 5.0
DRAWS: Final = 2000
BLOCKS: Final = 20
Floats = NDArray[np.float64]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; 1 if the worker grows by 5 MB or more."""
    options = _options(arguments)
    with tempfile.TemporaryDirectory() as folder:
        store = write_volumes(Path(folder), options)
        samples_N, own_mb_N = watch(store, options)
    steady = samples_N > options.warm
    result = {
        "samples": options.samples,
        "left_out": options.warm,
        "volumes": options.volumes,
        "own_mb": {"first": float(own_mb_N[0]), "last": float(own_mb_N[-1])},
        **growth(samples_N[steady], own_mb_N[steady]),
        "readings": list(zip(samples_N.tolist(), own_mb_N.round(2).tolist(), strict=True)),
        "claim": f"less than {CLAIM_MB:g} MB of growth from sample {options.warm} on",
        "environment": describe(),
    }
    result["holds"] = result["growth_mb"] < CLAIM_MB
    show(result)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if result["holds"] else 1


def write_volumes(folder: Path, options: argparse.Namespace) -> Path:
    """Write the store."""
    scan, store = read_nifti(options.scan, "CT"), folder / "store"
    volume = enlarge(scan, options.shape)
    entries = [write_stored(store, volume, f"v{n:03d}") for n in range(options.volumes)]
    write_index(store, entries, volume.spacing_mm)
    return store


def watch(store: Path, options: argparse.Namespace) -> tuple[Floats, Floats]:
    """Return after how many samples the worker was looked at, and its own megabytes."""
    loaders = PretrainLoaders(
        CropStore(store),
        GridViews(grid=(3, 3, 1), crop_voxels=options.crop, random_crops=2),
        DatasetConfig(),
        LoaderConfig(volumes_per_batch=1, workers=1, worker_kind=options.kind),
        batches=range(options.samples),
        seed=0,
        place=Place(rank=0, world=1, nodes=1),
    )
    before = set(psutil.Process().children())
    samples, own_mb = [], []
    worker = psutil.Process() if options.kind == "thread" else None
    for sample, _batch in enumerate(loaders.training(), start=1):
        if worker is None:
            worker = max(set(psutil.Process().children()) - before, key=_own_bytes)
        if sample % options.every == 0:
            samples.append(sample)
            own_mb.append(_own_bytes(worker) / 1e6)
    return np.array(samples, float), np.array(own_mb)


def growth(samples_N: Floats, own_mb_N: Floats) -> dict[str, Any]:
    """Return the growth that a fitted line shows, and its interval from blocks drawn anew."""
    span = float(samples_N[-1] - samples_N[0])
    rng = np.random.default_rng(0)
    blocks = np.array_split(np.arange(len(samples_N)), min(BLOCKS, len(samples_N)))
    slopes = []
    for _ in range(DRAWS):
        drawn = np.concatenate([blocks[b] for b in rng.integers(len(blocks), size=len(blocks))])
        if np.ptp(samples_N[drawn]) > 0:
            slopes.append(_slope(samples_N[drawn], own_mb_N[drawn]))
    low, high = np.percentile(slopes, (2.5, 97.5)).tolist()
    slope = _slope(samples_N, own_mb_N)
    return {
        "mb_per_1000_samples": slope * 1000,
        "interval_mb_per_1000_samples": [low * 1000, high * 1000],
        "growth_mb": slope * span,
        "growth_interval_mb": [low * span, high * span],
    }


def _slope(x_N: Floats, y_N: Floats) -> float:
    centred_N = x_N - x_N.mean()
    return float(centred_N @ y_N / (centred_N @ centred_N))


def _own_bytes(process: psutil.Process) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    table = Table(title=f"memory of one loader worker over {result['samples']} samples")
    for column in ("first MB", "last MB", "MB per 1000 samples", "growth MB", "interval MB"):
        table.add_column(column, justify="right", no_wrap=True)
    low, high = result["growth_interval_mb"]
    table.add_row(
        f"{result['own_mb']['first']:.1f}",
        f"{result['own_mb']['last']:.1f}",
        f"{result['mb_per_1000_samples']:.3f}",
        f"{result['growth_mb']:.2f}",
        f"{low:.2f} to {high:.2f}",
    )
    console = Console(width=100)
    console.print(table)
    console.print(f"{result['claim']}: {'yes' if result['holds'] else 'NO'}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scan", type=Path, default=SCAN, help="a CT to enlarge")
    parser.add_argument("--shape", type=int, nargs=3, default=(120, 110, 100))
    parser.add_argument("--volumes", type=int, default=300, help="more than are kept open at once")
    parser.add_argument("--crop", type=int, default=24, help="voxels along each side of a crop")
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--warm", type=int, default=1_000, help="samples left out at the start")
    parser.add_argument("--every", type=int, default=50, help="samples between two readings")
    parser.add_argument("--kind", choices=("thread", "process"), default="thread")
    parser.add_argument("--out", type=Path, help="where to write the numbers as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
