"""What the first pass of ingest costs: listing files, reading headers, grouping them into series.

    python -m pipelines.benchmarks.header_scan ../shared/data/dicom-cases --out runs/headers.json

The real headers of a folder are read on one core, files warm in the page cache, by the same code
that ingest runs. Then the folder is multiplied by links to show how time and memory grow: seconds
are fitted to ``c * files^e``, and an exponent of 1 means that twice the files take twice as long.
Each reading is a process of its own; its peak memory includes the imports.
"""

import argparse
import json
import multiprocessing
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from medssl.ingest.look import BIDS_PATIENT, NiftiLabels
from medssl.ingest.scan import Scanner
from medssl.ingest.state import State
from medssl.io.deidentify import Pseudonymizer
from medssl.io.limits import Limits
from medssl.io.sources.folder import list_files
from medssl.runs.environment import describe

MOST_MS_PER_FILE, MOST_MB, EXPONENT = 1.0, 4000, (0.9, 1.1)


def scan(folder: Path, sender: Any) -> None:
    """Scan ``folder`` twice and send the second reading: the first one warms imports and cache."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    with tempfile.TemporaryDirectory() as library:
        for _ in range(2):
            pseudonymizer = Pseudonymizer.ephemeral()
            labels = NiftiLabels(patient=re.compile(BIDS_PATIENT), modalities={})
            scanner = Scanner(pseudonymizer, Limits(), labels)
            begin = time.perf_counter()
            refs = [ref.stamped(pseudonymizer, "") for ref in list_files([folder], pseudonymizer)]
            found = scanner.scan(refs, State(Path(library), ()), lambda _: ())
            seconds = time.perf_counter() - begin
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak_mb = int(status.partition("VmHWM:")[2].split()[0]) * 1.024e-3
    sender.send({"files": len(refs), "items": len(found.items), "s": seconds, "peak_mb": peak_mb})


def measure(folder: Path) -> dict[str, float]:
    """Return one reading of ``folder``, from a fresh process."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=scan, args=(folder, sender))
    child.start()
    sender.close()
    reading: dict[str, float] = receiver.recv()
    child.join()
    return reading


def multiply(files: Sequence[Path], folder: Path, count: int) -> None:
    """Fill ``folder`` with ``count`` links to ``files``, a thousand to a folder."""
    for number in range(count):
        target = folder / f"{number // 1000:03d}" / f"{number:06d}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(files[number % len(files)].resolve())


def exponent(readings: Sequence[dict[str, float]]) -> float:
    """Return the slope of log seconds over log files, by least squares."""
    files, seconds = (np.log([reading[key] for reading in readings]) for key in ("files", "s"))
    return float(np.polyfit(files, seconds, 1)[0])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write JSON; 1 if a claim does not hold."""
    options = _options(arguments)
    real = [measure(options.folder) for _ in range(options.rounds)]
    files = sorted(path for path in options.folder.rglob("*") if path.is_file())
    grown = []
    with tempfile.TemporaryDirectory() as scratch:
        for count in options.counts:
            multiply(files, Path(scratch) / str(count), count)
            grown.append(measure(Path(scratch) / str(count)))
    ms_per_file = median(1e3 * reading["s"] / reading["files"] for reading in real)
    slope = exponent(grown)
    claims = [
        ("ms per real file, one core", ms_per_file, 0.0, MOST_MS_PER_FILE),
        ("peak MB of the most files", grown[-1]["peak_mb"], 0.0, MOST_MB),
        ("exponent of growth", slope, *EXPONENT),
    ]
    holds = _show(real, grown, claims)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        result = {"real": real, "grown": grown, "claims": claims, "environment": describe()}
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if holds else 1


def _show(
    real: Sequence[dict[str, float]],
    grown: Sequence[dict[str, float]],
    claims: Sequence[tuple[str, float, float, float]],
) -> bool:
    console = Console(width=100)
    table = Table(title="header scan, one core")
    for column in ("what", "files", "items", "s", "ms per file", "peak MB"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for what, readings in (("real folder", real), ("multiplied by links", grown)):
        for reading in readings:
            per_file = 1e3 * reading["s"] / reading["files"]
            counts = f"{reading['files']:.0f}", f"{reading['items']:.0f}"
            table.add_row(
                what, *counts, f"{reading['s']:.2f}", f"{per_file:.3f}", f"{reading['peak_mb']:.0f}"
            )
    console.print(table)
    held = True
    for what, found, low, high in claims:
        holds = low <= found <= high
        held &= holds
        bounds = f"at most {high:g}" if low == 0 else f"{low:g} to {high:g}"
        console.print(f"{what}: {found:.3f} ({bounds}): {'yes' if holds else 'NO'}")
    return held


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="real DICOM files")
    counts = [1000, 3000, 10_000, 30_000, 100_000]
    parser.add_argument("--counts", type=int, nargs="+", default=counts)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="where to write the numbers as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
