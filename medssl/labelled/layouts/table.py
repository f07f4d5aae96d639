"""A table (CSV or TSV): one row per image, with values to predict, a label map, or both."""

import io
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from medssl.errors import InputError
from medssl.labelled.layouts.base import Entry, Layout, Listing
from medssl.library.catalog import read_catalog
from medssl.library.volumes import volume_path

ABOUT = ("sex", "age_years", "scanner", "site", "slice_thickness_mm")
_NUMBERS = ("age_years", "slice_thickness_mm")
_IMAGES = ("image", "volume_key", "series_key")
_RESERVED = frozenset((*_IMAGES, "library", "label", "patient", "split", "modality", *ABOUT))
_UNKNOWN = frozenset(("", "na", "n/a", "nan", "null", "unknown", "?"))
_MODALITIES = {"": "", "CT": "CT", "MR": "MR", "MRI": "MR"}
_SUFFIXES = (".csv", ".tsv")
_SEPARATOR_LINE = "sep="
"""How Excel lets a file say what separates its columns, on a line before the header."""

Row = dict[str, str]


class Table(Layout):
    """Columns, of which all but the image are optional, and all others are values to predict.

    ``image``: a path relative to the table, to NIfTI, PNG, JPEG or the folder of a DICOM series;
    or ``volume_key`` or ``series_key`` with ``library``, the path of a medssl library. ``label``: a
    label map. ``patient``; ``split`` (train, val, test); ``modality`` (CT, MR); and what subgroups
    are made of: ``sex``, ``age_years``, ``scanner``, ``site``, ``slice_thickness_mm``. A value that
    is empty, NA, NaN, null, unknown or ? is not known.
    """

    looks_for = (
        "a .csv or .tsv with a column `image` (or `volume_key` or `series_key`, and `library`), "
        "and columns of values or `label`"
    )

    def mismatch(self, path: Path) -> str:
        """Return why it is no table with such a column."""
        if path.suffix.lower() not in _SUFFIXES:
            return "it is not a .csv or .tsv file"
        try:
            _read(path)
        except InputError as error:
            return error.problem
        return ""

    def read(self, path: Path) -> Listing:
        """Return a case per row."""
        table = _read(path)
        warnings: list[str] = []
        if "" in table.columns:
            table = table.drop(columns="")
            warnings.append("columns without a name are left out")
        targets = [str(name) for name in table.columns if name not in _RESERVED]
        problems = [] if targets or "label" in table else ["there is no column to learn from"]
        rows = [
            {str(k): _known_or_empty(str(v).strip()) for k, v in row.items()}
            for row in table.to_dict("records")
        ]
        if not rows:
            problems.append("the table has no rows")
        _count_unknown(rows, targets, warnings)
        _drop_bad_numbers(rows, warnings)
        libraries = _Libraries(path.parent)
        return Listing(
            name=path.stem,
            modality=_modality(rows, problems),
            labels=None if "label" in table else (),
            entries=tuple(_entry(row, path.parent, targets, libraries) for row in rows),
            problems=tuple(problems),
            warnings=tuple(warnings),
        )


def _read(path: Path) -> pd.DataFrame:
    """Return the table, all text, the names of the columns that we know in small letters.

    Raises:
        InputError: It is not there, is not text, or has rows that do not fit its header, or no
            column of images.
    """
    try:
        text = _decoded(path.read_bytes())
    except OSError:
        raise InputError("it is not there, or cannot be read") from None
    separator, text = _separated(text)
    try:
        table = pd.read_csv(
            io.StringIO(text),
            sep=separator,
            header=None,
            dtype=str,
            keep_default_na=False,
            skipinitialspace=True,
        ).fillna("")
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        said = str(error).strip().removeprefix("Error tokenizing data. C error: ")
        raise InputError(f"it cannot be read as a table: {said}") from None
    names = [str(name).strip() for name in table.iloc[0]]
    names = [name.lower() if name.lower() in _RESERVED else name for name in names]
    if not set(_IMAGES) & set(names):  # without a header these may be anybody's names: not shown
        known = ", ".join(f"`{name}`" for name in _IMAGES)
        raise InputError(f"none of its {len(names)} columns is called one of {known}")
    twice = [name for name, count in Counter(names).items() if count > 1 and name]
    if twice:
        raise InputError(f"several columns are called {', '.join(f'`{name}`' for name in twice)}")
    return table.iloc[1:].set_axis(names, axis="columns")


def _decoded(content: bytes) -> str:
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        raise InputError('it is not in UTF-8: in Excel, save it as "CSV UTF-8"') from None


def _separated(text: str) -> tuple[str, str]:
    """Return what separates the columns, and the text from the header on."""
    first, _, rest = text.partition("\n")
    if first.lower().startswith(_SEPARATOR_LINE) and len(first.strip()) == len(_SEPARATOR_LINE) + 1:
        return first.strip()[-1], rest
    return max(",;\t", key=first.count), text


def _known_or_empty(value: str) -> str:
    return "" if value.lower() in _UNKNOWN else value


def _count_unknown(rows: list[Row], targets: list[str], warnings: list[str]) -> None:
    counts = {column: sum(not row[column] for row in rows) for column in targets}
    warnings += [
        f"`{column}`: {unknown} of {len(rows)} values are missing or unknown"
        for column, unknown in counts.items()
        if unknown
    ]


def _drop_bad_numbers(rows: list[Row], warnings: list[str]) -> None:
    for column in _NUMBERS:
        bad = 0
        for row in rows:
            value = row.get(column, "").replace(",", ".")
            if value and not _is_number(value):
                bad, value = bad + 1, ""
            if column in row:
                row[column] = value
        if bad:
            warnings.append(f"`{column}`: {bad} value(s) are not numbers and count as unknown")


def _is_number(value: str) -> bool:
    try:
        return 0 <= float(value) < math.inf
    except ValueError:
        return False


def _modality(rows: list[Row], problems: list[str]) -> str:
    stated = {row.get("modality", "").upper() for row in rows}
    strange = sum(row.get("modality", "").upper() not in _MODALITIES for row in rows)
    if strange:  # not shown: it may be a column of anything
        problems.append(f"`modality` must be CT or MR, and is not in {strange} of {len(rows)} rows")
    modalities = sorted({_MODALITIES.get(word, "unknown") for word in stated})
    if len(modalities) > 1:
        problems.append("`modality` must be the same in every row")
    return modalities[0] if modalities else ""


def _entry(row: Row, folder: Path, targets: list[str], libraries: "_Libraries") -> Entry:
    image, known, problem = _image(row, folder, libraries)
    label = folder / row["label"] if row.get("label") else None
    values = {column: row[column] for column in targets}
    problems = [problem] if problem else []
    if "label" in row and label is None:
        problems.append("the image has no label: its `label` is empty")
    if "label" not in row and targets and not any(values.values()):
        problems.append("not one of its values is known")
    about = {name: row.get(name) or str(known.get(name, "")) for name in ABOUT}
    return Entry(
        image=image,
        label=label,
        patient=row.get("patient") or str(known.get("patient", "")),
        part=row.get("split", ""),
        targets=values,
        about={name: value for name, value in about.items() if value},
        problems=tuple(problems),
    )


def _image(
    row: Row, folder: Path, libraries: "_Libraries"
) -> tuple[Path | None, Mapping[str, Any], str]:
    """Return where the image lies, what the library knows of it, and why there is none."""
    given = [name for name in _IMAGES if row.get(name)]
    if not given:
        return None, {}, "the row names no image"
    if given[0] == "image":
        return folder / row["image"], {}, ""
    if not row.get("library"):
        return None, {}, f"`{given[0]}` needs a column `library`: the path of the medssl library"
    try:
        found = libraries.volumes(row["library"], given[0], row[given[0]])
    except InputError as error:
        return None, {}, error.problem
    if len(found) != 1:
        return None, {}, f"the library has {len(found)} volumes of this `{given[0]}`, not one"
    return found[0].path, found[0].known, ""


@dataclass(frozen=True)
class _Stored:
    path: Path
    known: Mapping[str, Any]


class _Libraries:
    """The catalogs of the libraries that a table names, each read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._volumes: dict[tuple[str, str], dict[str, list[_Stored]]] = {}

    def volumes(self, library: str, column: str, key: str) -> list[_Stored]:
        """Return the volumes whose ``column`` is ``key``.

        Raises:
            InputError: There is no library, or it cannot be read.
        """
        if (library, column) not in self._volumes:
            path = self._folder / library
            volumes = dict[str, list[_Stored]]()
            try:
                catalog = read_catalog(path)
            except (OSError, ValueError):  # too long, or with a null character
                raise InputError("`library` is not the path of a medssl library") from None
            for row in catalog.to_dict("records"):
                stored = _Stored(volume_path(path, row["volume_key"]), _known(row))
                volumes.setdefault(str(row[column]), []).append(stored)
            self._volumes[library, column] = volumes
        return self._volumes[library, column].get(key, [])


def _known(row: Mapping[Any, Any]) -> dict[str, str]:
    thickness_mm = row["slice_thickness_mm"]
    return {
        "patient": row["patient_key"] or "",
        "sex": row["sex"] or "",
        "scanner": row["manufacturer"] or "",
        "slice_thickness_mm": "" if pd.isna(thickness_mm) else f"{thickness_mm:g}",
    }
