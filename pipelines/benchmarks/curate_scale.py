"""What curation costs beside the search of pairs: a catalog of a million rows, and a new day.

    python -m pipelines.benchmarks.curate_scale --rows 100000 1000000 --out runs/curate_scale.json

A made-up catalog of that many rows is curated and released: rules, copies (a third of the rows),
splits, ledger, report. Pairs are given instead of searched for; what searching costs is measured
by ``signature_scale.py``. Then 2,000 series are added and curated upon the release, and this time
their pairs are searched for. Each is a process of its own; its peak memory includes the imports.
No volume has a file, so pictures and comparisons of voxels are not part of it.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from medssl.curation import curate as stage
from medssl.curation.duplicates import Duplicates
from medssl.curation.edges import Edge, Kind
from medssl.library import catalog as library_catalog
from medssl.library.catalog import COLUMNS, catalog_path
from medssl.runs.environment import describe

NEWCOMERS = 2000
MOST_MB = 4000
STEPS = ("catalog_digest", "apply_rules", "find_copies", "draw_splits", "write_report")
_PER_PATIENT = 3
_SHARE_OF_COPIES, _SHARE_OF_TWINS, _SHARE_OUT = 0.25, 0.08, 0.1


def write_catalog(library: Path, count: int) -> None:
    """Write ``count`` rows; the first rows are the same whatever ``count``."""
    numbers = np.arange(count)
    noise = np.random.default_rng(0).random((count, 2))
    is_twin = noise[:, 0] < _SHARE_OF_TWINS
    voxels = np.where(is_twin & (numbers > 0), numbers - 1, numbers)
    columns: dict[str, Any] = {
        "volume_key": [f"{n:032x}" for n in numbers * 2654435761 % 2**32],
        "patient_key": [f"patient-{n // _PER_PATIENT:026x}" for n in numbers],
        "study_key": [f"study-{n // 2:028x}" for n in numbers],
        "series_key": [f"series-{n:027x}" for n in numbers],
        "modality": np.where(numbers % 5 == 0, "MR", "CT"),
        "intensity": np.where(numbers % 5 == 0, "arbitrary", "hu"),
        "source_format": np.full(count, "dicom"),
        "manufacturer": np.array(["GE", "SIEMENS", "PHILIPS", ""])[numbers % 4],
        "scanner_key": [f"scanner-{n // 997:024x}" for n in numbers],
        "file_digest": [f"{n:064x}" for n in numbers],
        "voxel_digest": [f"{n:032x}" for n in voxels],
        "slice_thickness_mm": np.where(noise[:, 1] < _SHARE_OUT, 12.0, 1.25),
        "dct_full": _bits(1, count),
        "dct_bbox": _bits(2, count),
        "affine_ras": pa.FixedSizeListArray.from_arrays(
            pa.array(np.tile(np.diag([0.7, 0.7, 1.25, 1]).ravel(), count)), 16
        ),
    }
    numeric = {"shape_i": 512, "shape_j": 512, "shape_k": 200, "spacing_i_mm": 0.7,
               "spacing_j_mm": 0.7, "min": -1024, "max": 2000, "p01": -1000, "p99": 400,
               "mean": -300, "std": 400, "foreground_share": 0.4, "saturated_share": 0.0,
               "source_files": 200}  # fmt: skip
    columns |= {name: np.full(count, value) for name, value in numeric.items() if name in COLUMNS}
    columns["spacing_k_mm"] = np.where(noise[:, 1] < _SHARE_OUT, 12.0, 1.25)
    table = {}
    for name, kind in COLUMNS.items():
        empty = pa.array([[]] * count, kind) if pa.types.is_list(kind) else pa.nulls(count, kind)
        table[name] = pa.array(columns[name]).cast(kind) if name in columns else empty
    words = [n for n, kind in COLUMNS.items() if pa.types.is_string(kind) and n not in columns]
    table |= {name: pa.array(np.full(count, ""), pa.string()) for name in words}
    library_catalog.write_catalog(library, [], "benchmark")  # to take its metadata from
    schema = pq.read_schema(catalog_path(library))
    pq.write_table(pa.table(table, schema=schema).sort_by("volume_key"), catalog_path(library))


def given_pairs(rows: Any, *_: Any, **__: Any) -> Duplicates:
    """Return pairs as a search would: a quarter of the volumes is a copy of another one's."""
    keys = rows.keys
    twins = defaultdict(list)
    for key, digest in zip(keys, rows.values("voxel_digest"), strict=True):
        twins[digest].append(key)
    edges = [
        Edge(volume_a=a, volume_b=b, kind="identical", drops=True)
        for first, *others in twins.values()
        for a, b in (sorted((first, other)) for other in others)
    ]
    for n in np.flatnonzero(np.random.default_rng(1).random(len(keys) - 1) < _SHARE_OF_COPIES):
        kind: Kind = "resampled" if n % 2 else "re_reconstruction"
        edges.append(
            Edge(volume_a=keys[n], volume_b=keys[n + 1], kind=kind, drops=True, score=0.99,
                 threshold=0.97)
        )  # fmt: skip
    by_pair = {edge.volumes: edge for edge in edges}
    return Duplicates([by_pair[pair] for pair in sorted(by_pair)])


def measure(function: Callable[..., None], *arguments: Any) -> dict[str, float]:
    """Return seconds by step and peak MB of ``function`` in a fresh process."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_report, args=(sender, function, *arguments))
    child.start()
    sender.close()
    reading: dict[str, float] = receiver.recv()
    child.join()
    return reading


def first_release(library: Path) -> None:
    """Curate all of ``library``, with pairs given, and release it."""
    with patch.object(stage, "find_duplicates", given_pairs):
        stage.curate(_config(library, "v1", release=True))


def next_day(library: Path) -> None:
    """Curate what is new in ``library`` upon the release."""
    stage.curate(_config(library, "v2", based_on="v1"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write JSON; 1 if more memory was taken than promised."""
    options = _options(arguments)
    readings = []
    for count in options.rows:
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / "library"
            write_catalog(library, count)
            readings.append(
                {"what": "all at once", "rows": count, **measure(first_release, library)}
            )
            write_catalog(library, count + options.newcomers)
            what = f"{options.newcomers} newcomers"
            readings.append({"what": what, "rows": count, **measure(next_day, library)})
    _show(readings)
    held = all(reading["peak_mb"] <= MOST_MB for reading in readings)
    print(f"at most {MOST_MB} MB: {'yes' if held else 'NO'}")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        result = {"readings": readings, "environment": describe()}
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if held else 1


def _bits(seed: int, count: int) -> list[bytes]:
    rows = np.random.default_rng(seed).integers(0, 256, (count, 32), np.uint8)
    return [row.tobytes() for row in rows]


def _config(library: Path, name: str, **more: Any) -> stage.CurateConfig:
    rules = [{"name": name} for name in ("modality", "localizer", "slice_count", "field_of_view",
             "spacing", "constant_or_empty", "implausible_hu")]  # fmt: skip
    tree = {"library": library, "name": name, "rules": rules, "tracking": {"enabled": False}}
    return stage.CurateConfig.model_validate(tree | more)


def _report(sender: Any, function: Callable[..., None], *arguments: Any) -> None:
    seconds: dict[str, float] = defaultdict(float)
    begin = time.perf_counter()
    with _clocked(seconds):
        function(*arguments)
    total = time.perf_counter() - begin
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak_mb = int(status.partition("VmHWM:")[2].split()[0]) * 1.024e-3
    sender.send(
        {**seconds, "tables": total - sum(seconds.values()), "s": total, "peak_mb": peak_mb}
    )


@contextmanager
def _clocked(seconds: dict[str, float]) -> Iterator[None]:
    def clocked(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            begin = time.perf_counter()
            try:
                return function(*arguments, **more)
            finally:
                seconds[name] += time.perf_counter() - begin

        return call

    with ExitStack() as patches:
        for name in STEPS:
            function = getattr(stage, name)
            patches.enter_context(patch.object(stage, name, clocked(name, function)))
        yield


def _show(readings: Sequence[dict[str, Any]]) -> None:
    table = Table(title="curation, one process, seconds")
    names = ("what", "rows", *STEPS, "tables", "s", "peak_mb")
    for name in names:
        table.add_column(name.replace("_", " "), justify="left" if name == "what" else "right")
    for reading in readings:
        seconds = (f"{reading.get(step, 0):.1f}" for step in (*STEPS, "tables", "s"))
        table.add_row(
            reading["what"], f"{reading['rows']:,}", *seconds, f"{reading['peak_mb']:,.0f}"
        )
    Console(width=120).print(table)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--newcomers", type=int, default=NEWCOMERS)
    parser.add_argument("--out", type=Path, help="where to write the numbers as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
