"""What a user says of volumes that files do not say: which contrast, and on whose grid they lie."""

import csv
from pathlib import Path
from typing import Final, NamedTuple

from medssl.data.entry import CONTRASTS
from medssl.errors import InputError

COLUMNS: Final = ("volume_key", "contrast", "group")


class Said(NamedTuple):
    """One row of the table; empty where nothing is said."""

    contrast: str
    group: str


def read_contrast_table(path: Path) -> dict[str, Said]:
    """Return the rows of a CSV file by their ``volume_key``.

    Its columns are ``volume_key`` (which ``medssl ingest --explain FILE`` names) and one or both
    of ``contrast``, a word of ``CONTRASTS``, and ``group``, any word that volumes in one frame of
    reference share; it goes no further than this table.

    Raises:
        InputError: It is not there, or a column or a contrast is not known, or a volume is named
            twice.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            names = tuple(rows.fieldnames or ())
            if "volume_key" not in names or not set(names) <= set(COLUMNS):
                raise InputError(
                    f"the columns of {path} are {', '.join(names) or 'missing'}",
                    hint=f"they must be volume_key and some of {', '.join(COLUMNS[1:])}",
                )
            return _rows(path, rows)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"the table of contrasts cannot be read: {path} ({error})") from None


def _rows(path: Path, rows: "csv.DictReader[str]") -> dict[str, Said]:
    found: dict[str, Said] = {}
    for row in rows:
        key, contrast, group = (str(row.get(name) or "").strip() for name in COLUMNS)
        if contrast and contrast not in CONTRASTS:
            raise InputError(
                f"line {rows.line_num} of {path} has a contrast that is not known",
                hint=f"it must be empty or one of {', '.join(CONTRASTS)}",
            )
        if not key or key in found:
            state = "names a volume again" if key else "names no volume"
            raise InputError(f"line {rows.line_num} of {path} {state}", hint="one line per volume")
        found[key] = Said(contrast, group)
    return found
