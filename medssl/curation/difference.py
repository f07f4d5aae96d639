"""What two selections decided differently: what entered, left, moved, or is out for another reason.

Rows are joined by DuckDB, so that ledgers of a million rows need little memory.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb

from medssl.curation.ledger import FILE as LEDGER
from medssl.curation.ledger import read_ledger
from medssl.runs.folder import write_text

COLUMNS = ("change", "item", "before", "after")
_ROWS_AT_ONCE = 10_000

_QUERY = """
with
  a as (select * from read_parquet($before)),
  b as (select * from read_parquet($after)),
  joined as (
    select
      coalesce(a.item, b.item) as item,
      a.decision as a_decision, b.decision as b_decision,
      a.split as a_split, b.split as b_split,
      a.reason_code as a_code, b.reason_code as b_code,
      coalesce(a.representative, '') as a_beside, coalesce(b.representative, '') as b_beside,
      a.voxel_digest as a_voxels, b.voxel_digest as b_voxels
    from a full join b on a.item = b.item and a.level = b.level
  ),
  told as (
    select
      case
        when b_decision = 'keep' and a_decision is distinct from 'keep' then 'entered'
        when a_decision = 'keep' and b_decision is distinct from 'keep' then 'left'
        when a_decision = 'keep' and b_decision = 'keep' and a_split <> b_split then 'moved'
        when a_voxels <> b_voxels then 'changed'
        when a_decision = 'keep' and b_decision = 'keep' then ''
        when a_decision is null then 'new, not kept'
        when b_decision is null then 'gone, was not kept'
        when (a_decision, a_code, a_beside) <> (b_decision, b_code, b_beside) then 'other reason'
        else ''
      end as change,
      item,
      case
        when a_decision is null then 'not there'
        when a_decision = 'keep' then 'kept in ' || a_split
        else a_decision || ': ' || a_code || if(a_beside <> '', ' beside ' || a_beside, '')
      end as before,
      case
        when b_decision is null then 'not there'
        when b_decision = 'keep' then 'kept in ' || b_split
        else b_decision || ': ' || b_code || if(b_beside <> '', ' beside ' || b_beside, '')
      end as after
    from joined
  )
select change, item, before, after from told where change <> '' order by change, item
"""


@dataclass(frozen=True)
class Change:
    """One volume that two selections treat differently."""

    change: str
    item: str
    before: str
    after: str


def changes(before: Path, after: Path) -> Iterator[Change]:
    """Yield what differs between the selections in two folders, sorted by change and item.

    Raises:
        InputError: one of them has no ledger, or it is damaged.
    """
    for folder in (before, after):
        read_ledger(folder, ["item"])  # says what to do where it cannot be read
    paths = {"before": str(before / LEDGER), "after": str(after / LEDGER)}
    with duckdb.connect() as connection:
        found = connection.execute(_QUERY, paths)
        while rows := found.fetchmany(_ROWS_AT_ONCE):
            yield from (Change(*row) for row in rows)


def count_changes(found: Iterator[Change], keep: int) -> tuple[Counter[str], list[Change]]:
    """Return how many there are of each change, and the first ``keep`` of each."""
    counts: Counter[str] = Counter()
    first: list[Change] = []
    for change in found:
        counts[change.change] += 1
        if counts[change.change] <= keep:
            first.append(change)
    return counts, first


def write_changes(path: Path, found: Iterator[Change]) -> None:
    """Write all changes as CSV."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows([row.change, row.item, row.before, row.after] for row in found)
    write_text(path, text.getvalue())
