"""Which volumes have slices in common: a join of the table of slices with itself.

A part of a series, and a range that overlaps another, look like neither in any signature of whole
volumes; their slices are the same. Slices are the same when their keys are equal (see
``library.fingerprints.slice_dct256``), and two volumes have those in common that lie one after the
other in both: many equal keys at one and the same offset, which chance does not make.
"""

import logging
from collections.abc import Collection
from contextlib import nullcontext
from pathlib import Path
from typing import Final, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from medssl.library.slices import damage_named
from medssl.runs.workers import available_cores

_log = logging.getLogger(__name__)

MIN_FOREGROUND: Final = 0.05
"""Of a slice that is not air; emptier slices look like each other in everybody."""
MIN_SLICES: Final = 4
"""Fewer in common say nothing."""
MOST_VOLUMES_PER_KEY: Final = 100
"""A key that more volumes have is one of nothing in particular, and joins nothing."""
_SPILL: Final = ".partial-spill"
_COLUMNS: Final = ("volume_key", "index", "slice_axis", "slice_key", "foreground")


class SharedSlices(NamedTuple):
    """Two volumes, and the slices they have in common; ``volume_a`` comes first in the alphabet."""

    volume_a: str
    volume_b: str
    axis: int
    offset: int
    """The slice of index n in the first is the slice n + offset of the second."""
    slices: int
    """How many."""


def shared_slices(
    slices: Path | pa.Table,
    volumes: Collection[str],
    at_least: float,
    settled: Collection[str] = (),
    *,
    memory_mb: int = 2000,
    threads: int | None = None,
) -> list[SharedSlices]:
    """Return the pairs of ``volumes`` that share slices, sorted.

    Memory is bounded: what does not fit is kept in temporary files beside the table.

    Args:
        slices: The table of slices, or its file; see ``library.slices.COLUMNS``.
        volumes: The volumes to look at.
        at_least: Share of the slices, less the empty ones, of the one that has fewer.
        settled: Volumes that need not be compared with each other.
        memory_mb: What the join may use.
        threads: As many as there are cores by default.

    Raises:
        InputError: the file of the table is damaged.
    """
    guard = damage_named(slices) if isinstance(slices, Path) else nullcontext()
    with guard:
        names = pq.read_schema(slices).names if isinstance(slices, Path) else slices.column_names
    if not set(_COLUMNS) <= set(names):
        _log.warning(
            "The table of slices has no keys: parts of scans are not found. "
            "Run the same `medssl ingest` again, it completes the library."
        )
        return []
    wanted = pa.table({"volume_key": pa.array(sorted(volumes), pa.string())})
    known = set(settled)
    wanted = wanted.append_column(
        "is_new", pa.array([key not in known for key in wanted["volume_key"].to_pylist()])
    )
    guard = damage_named(slices) if isinstance(slices, Path) else nullcontext()
    with guard, duckdb.connect() as database:
        database.execute("SET enable_progress_bar = false")
        database.execute("SET preserve_insertion_order = false")
        database.execute(f"SET memory_limit = '{memory_mb}MB'")
        database.execute(f"SET threads = {threads or available_cores()}")
        if isinstance(slices, Path):
            database.execute(f"SET temp_directory = {_quoted(slices.with_name(_SPILL))}")
            source = f"read_parquet({_quoted(slices)})"
        else:
            database.register("given", slices)
            source = "given"
        database.register("wanted", wanted)
        found = database.execute(
            _QUERY.format(source=source),
            {
                "least": MIN_FOREGROUND,
                "most": MOST_VOLUMES_PER_KEY,
                "count": MIN_SLICES,
                "share": at_least,
            },
        ).fetchall()
    keys = wanted["volume_key"].to_pylist()
    pairs = (
        SharedSlices(keys[a], keys[b], int(axis), int(offset), int(count))
        for a, b, axis, offset, count in found
    )
    return sorted(pairs)


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


_QUERY: Final = """
WITH named AS (
    SELECT row_number() OVER (ORDER BY volume_key) - 1 AS volume, volume_key, is_new FROM wanted
),
slice AS (
    SELECT named.volume::INTEGER AS volume, is_new, s.index, s.slice_axis AS axis,
           s.slice_key AS key
    FROM {source} AS s JOIN named USING (volume_key)
    WHERE s.foreground >= $least AND s.slice_key IS NOT NULL
),
size AS (SELECT volume, count(*) AS slices FROM slice GROUP BY volume),
telling AS (
    SELECT key FROM (SELECT DISTINCT key, volume, is_new FROM slice)
    GROUP BY key HAVING bool_or(is_new) AND count(*) BETWEEN 2 AND $most
),
few AS (SELECT slice.* FROM slice SEMI JOIN telling USING (key)),
beside AS (
    SELECT a.volume AS a, b.volume AS b, a.axis, b.index - a.index AS offset_, count(*) AS shared
    FROM few AS a JOIN few AS b ON a.key = b.key AND a.axis = b.axis AND a.volume < b.volume
    WHERE a.is_new OR b.is_new
    GROUP BY ALL HAVING count(*) >= $count
),
best AS (
    SELECT a, b, axis, offset_, shared FROM beside
    QUALIFY row_number() OVER (PARTITION BY a, b ORDER BY shared DESC, axis, offset_) = 1
)
SELECT a, b, axis, offset_, shared
FROM best JOIN size AS sa ON sa.volume = a JOIN size AS sb ON sb.volume = b
WHERE shared >= $share * least(sa.slices, sb.slices)
"""
