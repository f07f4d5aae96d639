"""The sampling table: how much each slice of the kept volumes is worth drawing from.

A row per slice, in the order of volume keys and places. `prepare` carries the weights to the grid
of the crop store; no voxel is copied or removed, and another table changes only what is drawn.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from medssl.curation.slices import VolumeSlices, slice_positions_mm
from medssl.curation.strategies.base import NOBODY, Reduction, Strategy
from medssl.errors import InputError, MedSSLError
from medssl.library import slices as library_slices
from medssl.library.volumes import read_volume
from medssl.runs.folder import atomic_path
from medssl.runs.progress import task
from medssl.runs.workers import map_unordered

FILE: Final = "sampling.parquet"
AT_ONCE: Final = 32
"""Volumes per task: enough to read their rows together, few enough to share among workers."""
ROWS_AT_ONCE: Final = 2**16

COLUMNS: Final[Mapping[str, pa.DataType]] = {
    "volume_key": pa.string(),
    "slice_axis": pa.int8(),
    "index": pa.int32(),
    "position_mm": pa.float64(),
    "weight": pa.float64(),
    "kept": pa.bool_(),
    "reason": pa.string(),
    "representative_index": pa.int32(),
    "score": pa.float64(),
    "threshold": pa.float64(),
    "strategy": pa.string(),
}
"""``index`` counts along ``slice_axis`` of the library's array, ``position_mm`` along its normal.
``representative_index`` is the kept slice of the same volume that shows the same; null where there
is none. ``reason`` is a word of ``medssl.curation.strategies.base.Reason``, or ``unreadable``:
nothing is known of such a volume, and all its slices weigh alike."""

_WEIGHTS: Final = ["volume_key", "slice_axis", "weight", "position_mm"]
_KNOWN: Final = ("volume_key", "index", "slice_axis", "foreground", "slice_dct256")


class WeighedVolume(NamedTuple):
    """What is needed of a catalog's row, small: there may be a million."""

    volume_key: str
    voxel_digest: str
    affine_ras: bytes
    """16 doubles."""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Return it of a row of the catalog."""
        affine_ras = np.asarray(row["affine_ras"], np.float64).tobytes()
        return cls(str(row["volume_key"]), str(row["voxel_digest"]), affine_ras)


class SamplingSummary(NamedTuple):
    """What a table says, in numbers."""

    slices: int
    kept: int
    reasons: dict[str, int]
    digest: str
    """Of every volume's weights: what training depends on."""


def sampling_rows(
    config: Strategy.Config,
    library: Path,
    rows: Iterable[Mapping[str, Any]],
    workers: int | str = 1,
) -> Iterator[pa.Table]:
    """Yield the sampling table in pieces, in the order of volume keys.

    Args:
        config: The strategy that weighs the slices.
        library: What ``medssl ingest`` wrote.
        rows: Rows of the catalog, of the volumes that training draws from.
        workers: See ``medssl.runs.workers.Workers``; their number changes nothing.

    Raises:
        InputError: The library has no table of slices, or one without their signatures.
    """
    lean = sorted(map(WeighedVolume.of, rows))
    jobs = list(enumerate(lean[n : n + AT_ONCE] for n in range(0, len(lean), AT_ONCE)))
    waiting: dict[int, pa.Table] = {}
    with task("weigh slices", len(lean)) as work:
        weigh = partial(_weigh, config, Path(library))
        following = 0
        for number, table in map_unordered(weigh, jobs, workers=workers, shared=[library]):
            waiting[number] = table
            work.advance(len(jobs[number][1]))
            while following in waiting:
                yield waiting.pop(following)
                following += 1


def write_sampling_table(
    path: Path,
    config: Strategy.Config,
    library: Path,
    rows: Iterable[Mapping[str, Any]],
    workers: int | str = 1,
) -> SamplingSummary:
    """Write ``sampling_rows`` to ``path``, whole or not at all; memory holds a few pieces.

    Raises:
        InputError: As ``sampling_rows``.
    """
    slices, kept, reasons, digest = 0, 0, Counter[str](), hashlib.sha256()
    with atomic_path(path) as unfinished, pq.ParquetWriter(unfinished, _schema()) as writer:
        for table in _in_groups(sampling_rows(config, library, rows, workers)):
            writer.write_table(table)
            slices += len(table)
            kept += int(pa.compute.sum(table["kept"]).as_py() or 0)
            reasons.update(table["reason"].to_pylist())
            digest.update(_content(table))
    return SamplingSummary(slices, kept, dict(sorted(reasons.items())), digest.hexdigest())


def _in_groups(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Put small tables together, so that a file has few groups of rows and is found into fast."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(map(len, waiting)) >= ROWS_AT_ONCE:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def read_sampling_table(path: Path, volume_keys: Sequence[str] | None = None) -> pa.Table:
    """Return the rows of some volumes, or all.

    Raises:
        InputError: There is no such table, or it is not one.
    """
    keys = None if volume_keys is None else [("volume_key", "in", list(volume_keys))]
    try:
        table = pq.read_table(path, filters=keys)
    except FileNotFoundError:
        raise InputError(
            f"there is no sampling table: {path}",
            hint="curate with `slices` set, or prepare without `sampling`",
        ) from None
    except (pa.ArrowInvalid, OSError):
        table = None
    if table is None or table.schema.names != list(COLUMNS):
        raise InputError(f"{path} is damaged, or no sampling table", hint="curate again")
    return table


class SliceWeights(NamedTuple):
    """The slices of one volume: how much each is worth, and where it lies along their normal."""

    slice_axis: int
    weights_N: NDArray[np.float64]
    positions_mm: NDArray[np.float64]


def weights_of(table: pa.Table) -> dict[str, SliceWeights]:
    """Return the weights of every volume of a table."""
    keys = table["volume_key"].to_numpy(zero_copy_only=False)
    columns = [table[name].to_numpy() for name in ("slice_axis", "weight", "position_mm")]
    axes, weights, at_mm = columns
    changes = keys[1:] != keys[:-1]
    starts = np.flatnonzero(np.r_[len(keys) > 0, changes]).tolist()
    stops = [*starts[1:], len(keys)]
    return {
        str(keys[start]): SliceWeights(int(axes[start]), weights[start:stop], at_mm[start:stop])
        for start, stop in zip(starts, stops, strict=False)
    }


def weights_digest(table: pa.Table) -> str:
    """Return the SHA-256 (hex) of what decides what is drawn."""
    return hashlib.sha256(_content(table)).hexdigest()


def table_digest(path: Path) -> str:
    """Return ``weights_digest`` of a file, read in pieces; ``SamplingSummary`` has it too.

    Raises:
        InputError: It is damaged, or no sampling table.
    """
    digest, rest = hashlib.sha256(), None
    try:
        file = pq.ParquetFile(path)
        if file.schema_arrow.names != list(COLUMNS):
            raise pa.ArrowInvalid
        for batch in file.iter_batches(columns=_WEIGHTS):
            table = pa.Table.from_batches([batch])
            rest = table if rest is None else pa.concat_tables([rest, table])
            whole = pa.compute.index(rest["volume_key"], rest["volume_key"][-1]).as_py()
            digest.update(_content(rest.slice(0, whole)))
            rest = rest.slice(whole)  # the last volume may go on in the next batch
        digest.update(_content(rest) if rest is not None else b"")
    except (pa.ArrowException, OSError):
        raise InputError(f"{path} is damaged, or no sampling table", hint="curate again") from None
    return digest.hexdigest()


def _content(table: pa.Table) -> bytes:
    return b"".join(
        f"{key} {axis} {len(weights)} ".encode() + weights.astype("<f8").tobytes()
        for key, (axis, weights, _) in weights_of(table).items()
    )


def _weigh(
    config: Strategy.Config, library: Path, job: tuple[int, Sequence[WeighedVolume]]
) -> tuple[int, pa.Table]:
    number, rows = job
    strategy: Strategy = config.build()
    known = slice_facts(library, [row.volume_key for row in rows])
    tables = [_rows_of_one(strategy, library, row, known[row.volume_key]) for row in rows]
    return number, pa.concat_tables(tables)


def slice_facts(library: Path, volume_keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return what the library's table of slices knows of some volumes, column by column.

    Raises:
        InputError: There is no such table, it was written by an older medssl, or a volume is not
            in it.
    """
    path = library / library_slices.FILE
    if not path.is_file():
        raise InputError(f"{library} holds no table of slices", hint="run `medssl ingest` first")
    with library_slices.damage_named(path):
        missing = set(_KNOWN) - set(pq.read_schema(path).names)
    if missing:
        raise InputError(
            f"the table of slices of {library} lacks {', '.join(sorted(missing))}",
            hint="an older medssl wrote it: run `medssl ingest` again, it adds what is missing",
        )
    wanted = [("volume_key", "in", list(volume_keys))]
    with library_slices.damage_named(path):
        table = pq.read_table(
            path, columns=list(_KNOWN), filters=wanted, page_checksum_verification=True
        )
    table = table.sort_by([("volume_key", "ascending"), ("index", "ascending")])
    found: dict[str, dict[str, Any]] = {}
    for row in table.to_pylist():
        facts = found.setdefault(row["volume_key"], {"foreground": [], "dct256": []})
        facts["slice_axis"] = row["slice_axis"]
        facts["foreground"].append(row["foreground"])
        facts["dct256"].append(row["slice_dct256"])
    absent = sorted(set(volume_keys) - set(found))
    unmeasured = sorted(key for key, facts in found.items() if None in facts["foreground"])
    for keys, what in ((absent, "does not know"), (unmeasured, "holds no signatures of")):
        if keys:
            raise InputError(
                f"the table of slices {what} the volume {keys[0]}"
                + (f" and {len(keys) - 1} others" if len(keys) > 1 else ""),
                hint="run `medssl ingest` again, then curate again",
            )
    return found


def volume_slices(library: Path, row: WeighedVolume, facts: Mapping[str, Any]) -> VolumeSlices:
    """Return the slices of one volume, from its row and its ``slice_facts``."""
    affine_ras = np.frombuffer(row.affine_ras).reshape(4, 4)
    axis = int(facts["slice_axis"])
    return VolumeSlices(
        volume_key=row.volume_key,
        voxel_digest=row.voxel_digest,
        slice_axis=axis,
        positions_mm=slice_positions_mm(affine_ras, axis, len(facts["foreground"])),
        foreground=np.array(facts["foreground"], np.float64),
        dct256=tuple(facts["dct256"]),
        read=partial(read_volume, library, row.volume_key),
    )


def _rows_of_one(
    strategy: Strategy, library: Path, row: WeighedVolume, facts: Mapping[str, Any]
) -> pa.Table:
    slices = volume_slices(library, row, facts)
    dropped = strategy.config.dropped_weight
    try:
        found = strategy.reduce(slices)
        worth = {"kept": 1.0, "similar": dropped, "thinned": dropped}
        weight = np.array([worth.get(reason, 0.0) for reason in found.reasons])
    except MedSSLError:  # a damaged file: prepare names it
        found, weight = _unreadable(len(slices)), np.ones(len(slices))
    return as_table(strategy, slices, found, weight)


def _unreadable(count: int) -> Reduction:
    return Reduction(
        kept=np.ones(count, bool),
        reasons=("unreadable",) * count,  # type: ignore[arg-type]  # not for a strategy to say
        representative=np.full(count, NOBODY, np.int64),
        score=np.full(count, np.nan),
    )


def as_table(
    strategy: Strategy, slices: VolumeSlices, found: Reduction, weight: NDArray[np.float64]
) -> pa.Table:
    """Return the rows of one volume."""
    count = len(slices)
    scored = np.isnan(found.score)
    columns = {
        "volume_key": [slices.volume_key] * count,
        "slice_axis": np.full(count, slices.slice_axis, np.int8),
        "index": np.arange(count, dtype=np.int32),
        "position_mm": slices.positions_mm,
        "weight": weight,
        "kept": found.kept,
        "reason": list(found.reasons),
        "representative_index": pa.array(
            found.representative.astype(np.int32), mask=found.representative == NOBODY
        ),
        "score": pa.array(found.score, mask=scored),
        "threshold": pa.array(np.full(count, found.threshold), mask=scored),
        "strategy": [strategy.spec] * count,
    }
    return pa.table(columns, schema=_schema())


def _schema() -> pa.Schema:
    return pa.schema(list(COLUMNS.items()))
