"""Which cases are near duplicates of each other, from a table."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from medssl.errors import InputError

_KEYS = ("volume_key", "item", "case_key")
GROUP = "group_key"


def read_copies(table: Path | None, keys: Sequence[str]) -> tuple[str, ...]:
    """Return the group of near duplicates of each case; "" for one that is in none.

    Args:
        table: Parquet or CSV of a key (`volume_key`, `case_key`, or `item` as a ledger of ``medssl
            curate`` calls it) and `group_key`; None where nothing is known.
        keys: Of the cases, in their order.

    Raises:
        InputError: It is no such table, or speaks of other cases only.
    """
    if table is None:
        return ("",) * len(keys)
    try:
        parquet = table.suffix == ".parquet"
        frame = pd.read_parquet(table) if parquet else pd.read_csv(table, dtype=str)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{table}: the table of near duplicates cannot be read ({type(error).__name__})",
            hint="a Parquet or CSV file",
        ) from None
    key = next((name for name in _KEYS if name in frame), None)
    if key is None or GROUP not in frame:
        raise InputError(
            f"{table}: there is no column {GROUP!r} beside one of {', '.join(_KEYS)}",
            hint="`kept.parquet` or `ledger.parquet` of a selection, or a table of your own",
        )
    named = frame[[key, GROUP]].dropna().astype(str)
    group_of = dict(zip(named[key], named[GROUP], strict=True))
    if not group_of.keys() & set(keys):
        raise InputError(
            f"{table}: none of its {len(group_of)} keys is one of the data set's",
            hint=f"the set's keys are like {keys[0]}",
        )
    return tuple(group_of.get(case, "") for case in keys)
