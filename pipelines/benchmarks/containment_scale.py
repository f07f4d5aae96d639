"""Which volumes share slices, among millions of slices: how long, and in how much memory.

    python -m pipelines.benchmarks.containment_scale --out runs/containment.json

Keys are random, 3 % of them one and the same, as those of air are; a number of volumes have a range
of another's slices. Each size is a process of its own, which reads a Parquet file as curation does;
the most memory it held includes the imports. 48 million slices, which 160,000 volumes have, take
minutes: ask for them with ``--slices``.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from medssl.curation.containment import shared_slices
from medssl.runs.environment import describe

PER_VOLUME, SHARED = 300, 200
AIR = 0.03
PLANTED = 2000
MOST_S, AT, MOST_MB = 10.0, 5_000_000, 4000
_VOLUMES_AT_ONCE = 4000


def write_slices(path: Path, slices: int, seed: int = 0) -> int:
    """Write a table of about so many slices; return how many pairs of volumes share some."""
    rng = np.random.default_rng(seed)
    volumes = slices // PER_VOLUME
    count = min(PLANTED, volumes // 4)
    drawn = rng.choice(volumes, 2 * count, replace=False)
    source_of = dict(zip(drawn[:count].tolist(), drawn[count:].tolist(), strict=True))
    schema = pa.schema(
        {
            "volume_key": pa.string(),
            "index": pa.int32(),
            "slice_axis": pa.int8(),
            "slice_key": pa.binary(8),
            "foreground": pa.float32(),
        }
    )
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, volumes, _VOLUMES_AT_ONCE):
            part = range(start, min(start + _VOLUMES_AT_ONCE, volumes))
            keys = np.stack([_keys(seed, volume) for volume in part])
            for row, volume in enumerate(part):
                if volume in source_of:
                    keys[row, 20 : 20 + SHARED] = _keys(seed, source_of[volume])[50 : 50 + SHARED]
            size = keys.size
            names = np.repeat([f"{volume:016x}" for volume in part], PER_VOLUME)
            columns = [
                pa.array(names, pa.string()),
                pa.array(np.tile(np.arange(PER_VOLUME, dtype=np.int32), len(part))),
                pa.array(np.full(size, 2, np.int8)),
                pa.Array.from_buffers(pa.binary(8), size, [None, pa.py_buffer(keys.tobytes())]),
                pa.array(np.full(size, 0.5, np.float32)),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
    return count


def _keys(seed: int, volume: int) -> "np.ndarray[Any, np.dtype[np.uint64]]":
    rng = np.random.default_rng([seed, volume])
    keys = rng.integers(0, 2**64, PER_VOLUME, dtype=np.uint64)
    keys[rng.random(PER_VOLUME) < AIR] = 0
    return keys


def join(path: Path, sender: Any) -> None:
    """Join the table with itself and send what it took."""
    volumes = pq.read_table(path, columns=["volume_key"])["volume_key"].unique().to_pylist()
    begin = time.perf_counter()
    found = shared_slices(path, volumes, 0.3)
    seconds = time.perf_counter() - begin
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak_mb = int(status.partition("VmHWM:")[2].split()[0]) * 1.024e-3
    sender.send({"s": seconds, "found": len(found), "peak_mb": peak_mb})


def measure(slices: int) -> dict[str, Any]:
    """Return one reading, from a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slices.parquet"
        planted = write_slices(path, slices)
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=join, args=(path, sender))
        child.start()
        sender.close()
        reading: dict[str, Any] = receiver.recv()
        child.join()
    return {"slices": slices, "planted": planted, **reading}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write JSON; 1 if a claim does not hold."""
    options = _options(arguments)
    readings = [measure(slices) for slices in options.slices]
    console = Console(width=100)
    table = Table(title="volumes that share slices")
    for name in ("slices", "s", "peak MB", "pairs planted", "pairs found"):
        table.add_column(name, justify="right")
    for reading in readings:
        found = str(reading["planted"]), str(reading["found"])
        took = f"{reading['s']:.2f}", f"{reading['peak_mb']:.0f}"
        table.add_row(f"{reading['slices']:,}", *took, *found)
    console.print(table)
    small = [reading["s"] for reading in readings if reading["slices"] <= AT]
    claims = {
        **({f"at most {MOST_S:g} s up to {AT:,} slices": max(small) <= MOST_S} if small else {}),
        f"at most {MOST_MB} MB": all(reading["peak_mb"] <= MOST_MB for reading in readings),
        "the planted pairs found, and no other": all(
            reading["found"] == reading["planted"] for reading in readings
        ),
    }
    for claim, holds in claims.items():
        console.print(f"{claim}: {'yes' if holds else 'NO'}")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        result = {"readings": readings, "claims": claims, "environment": describe()}
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if all(claims.values()) else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--slices", type=int, nargs="+", default=[300_000, 1_000_000, AT])
    parser.add_argument("--out", type=Path, help="where to write the numbers as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
