"""What one set of scans shares with another: test data that a model has already seen.

The two are laid side by side as one library, so that everything that finds copies within a library
finds them here: equal voxels, the same scan on another grid or with another kernel, parts of a
scan. What is only alike is told apart from what leaks.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from medssl.curation.catalog_rows import CatalogRows
from medssl.curation.duplicates import find_duplicates
from medssl.curation.edges import KINDS, Edge, NearDuplicateConfig
from medssl.errors import InputError
from medssl.library import slices
from medssl.library.catalog import read_catalog_table
from medssl.library.identity import identity_path
from medssl.library.volumes import SUFFIX, volume_path
from medssl.runs.folder import read_json

ONLY_ALIKE: Final = frozenset(("ambiguous", "unreadable"))
"""Edges that prove nothing: a person should look."""
SAME_PATIENT: Final = "same_patient"
_MARKS: Final = ("a", "b")


@dataclass(frozen=True)
class Side:
    """One of the two sets."""

    library: Path
    keys: frozenset[str] | None = None
    """The volumes that count; all, where it is None."""
    names: Mapping[str, str] = field(default_factory=dict)
    """What a volume is called when it is told, by volume key."""

    def name(self, key: str) -> str:
        """Return what a volume is called."""
        return self.names.get(key, f"volume {key}")


@dataclass(frozen=True, order=True)
class Shared:
    """Something of B that A holds too."""

    in_b: str
    kind: str
    in_a: str
    score: float | None = None
    threshold: float | None = None
    """Where voxels were compared."""

    @property
    def leaks(self) -> bool:
        """Whether it is proved; otherwise the two are only alike."""
        return self.kind not in ONLY_ALIKE

    @property
    def meaning(self) -> str:
        """Return the kind in words."""
        return next((words for kind, words in KINDS.items() if kind == self.kind), self.kind)


def shared_between(
    a: Side,
    b: Side,
    workspace: Path,
    config: NearDuplicateConfig,
    workers: int | str = 0,
) -> list[Shared]:
    """Return what of ``b`` is also in ``a``, sorted; for each pair of volumes the strongest tie.

    Args:
        a: What was seen.
        b: What should be new.
        workspace: An empty folder to lay the two side by side in, by links; nothing is copied.
        config: When two volumes count as one scan.
        workers: Who compares.

    Raises:
        InputError: a side has no catalog, or names volumes that its catalog does not have.
    """
    tables = [_marked(side, mark, workspace) for side, mark in zip((a, b), _MARKS, strict=True)]
    rows = CatalogRows(pa.concat_tables(tables, promote_options="default"))
    seen = frozenset(key for key in rows.keys if key.startswith(_MARKS[0]))
    joint = _join_slices((a, b), workspace)
    edges = find_duplicates(rows, joint, workspace, config, workers, settled=seen).edges
    found: dict[tuple[str, str], Shared] = {}
    for tie in [*_ties(rows, edges), *(_one_patient(rows) if _one_key(a, b) else ())]:
        key_a, key_b = tie.in_a[1:], tie.in_b[1:]
        named = Shared(b.name(key_b), tie.kind, a.name(key_a), tie.score, tie.threshold)
        before = found.get((key_a, key_b))
        if before is None or (named.leaks and not before.leaks):
            found[key_a, key_b] = named
    return sorted(found.values(), key=lambda tie: (tie.in_b, not tie.leaks, tie.kind, tie.in_a))


def _marked(side: Side, mark: str, workspace: Path) -> pa.Table:
    """Return the catalog of one side with marked keys, its files and slices under them."""
    table = read_catalog_table(side.library)
    if side.keys is not None:
        wanted = pa.array(sorted(side.keys), pa.string())
        table = table.filter(pa.compute.is_in(table["volume_key"], wanted))
        if len(table) < len(side.keys):
            raise InputError(
                f"{len(side.keys) - len(table)} of {len(side.keys)} selected volumes are not in "
                "the catalog any more",
                hint="the library was ingested again since: curate it again",
            )
    keys = table["volume_key"].to_pylist()
    folder = volume_path(workspace, mark).parent
    folder.mkdir(parents=True, exist_ok=True)
    for key in keys:
        (folder / f"{mark}{key}{SUFFIX}").symlink_to(volume_path(side.library, key).resolve())
    place = table.schema.get_field_index("volume_key")
    marked = pa.array([mark + key for key in keys], pa.string())
    return table.set_column(place, "volume_key", marked).replace_schema_metadata(None)


def _join_slices(sides: Sequence[Side], workspace: Path) -> Path | None:
    """Write the tables of slices of both sides as one, with marked keys; a part at a time."""
    paths = [side.library / slices.FILE for side in sides]
    if not all(path.is_file() for path in paths):
        return None
    joint = workspace / slices.FILE
    schema = pq.read_schema(paths[0])
    with pq.ParquetWriter(joint, schema) as file:
        for mark, side, path in zip(_MARKS, sides, paths, strict=True):
            for batch in pq.ParquetFile(path).iter_batches():
                table = pa.Table.from_batches([batch]).cast(schema)
                if side.keys is not None:
                    wanted = pa.array(sorted(side.keys), pa.string())
                    table = table.filter(pa.compute.is_in(table["volume_key"], wanted))
                marked = pa.compute.binary_join_element_wise(mark, table["volume_key"], "")
                place = schema.get_field_index("volume_key")
                file.write_table(table.set_column(place, "volume_key", marked))
    return joint


def _ties(rows: CatalogRows, edges: list[Edge]) -> Iterator[Shared]:
    """Yield every tie across the two sides; a twin of a volume shares what the volume shares."""
    twins: dict[str, list[str]] = defaultdict(list)
    digest_of = dict(zip(rows.keys, rows.values("voxel_digest"), strict=True))
    for key, digest in digest_of.items():
        twins[digest].append(key)
    for keys in twins.values():
        for in_a, in_b in _across(keys, keys):
            same = rows.row(in_a)["file_digest"] == rows.row(in_b)["file_digest"]
            yield Shared(in_b, "identical" if same else "re_export", in_a, 1.0, 1.0)
    for edge in edges:
        first, second = (twins[digest_of[key]] for key in edge.volumes)
        if first is not second:
            for in_a, in_b in [*_across(first, second), *_across(second, first)]:
                yield Shared(in_b, edge.kind, in_a, edge.score, edge.threshold)


def _across(keys_a: list[str], keys_b: list[str]) -> list[tuple[str, str]]:
    mark_a, mark_b = _MARKS
    return [(a, b) for a in keys_a if a[0] == mark_a for b in keys_b if b[0] == mark_b]


def _one_patient(rows: CatalogRows) -> Iterator[Shared]:
    volumes: dict[str, list[str]] = defaultdict(list)
    for key, patient in rows.words("patient_key").items():
        if patient:
            volumes[patient].append(key)
    for keys in volumes.values():
        for in_a, in_b in _across(keys, keys):
            yield Shared(in_b, SAME_PATIENT, in_a)


def _one_key(a: Side, b: Side) -> bool:
    """Return whether pseudonyms of the two can be compared: one secret key made both."""
    known = [path for side in (a, b) if (path := identity_path(side.library)).is_file()]
    ids = {read_json(path).get("key_id") for path in known}
    return a.library == b.library or (len(known) == len(_MARKS) and len(ids) == 1)
