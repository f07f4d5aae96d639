"""Reports as they come: tables, text files, DICOM SR; each read, or a row with a reason.

What names a patient or a study here is private: nothing of it is shown, logged or written.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from medssl.config.base import Config
from medssl.errors import InputError, RejectedFileError
from medssl.io.identify import identify
from medssl.reports.structured import read_structured

KeyKind = Literal["study_uid", "series_uid", "file", "study_key", "series_key", "volume_key"]
TABLES: Final = (".csv", ".tsv", ".jsonl", ".ndjson")
TEXTS: Final = (".txt", ".text", ".md")
_MOST_BYTES: Final = 10_000_000
"""Of one report: what is larger is no report."""
_COLUMN: Final = re.compile(r"(?!.*\d{4})[^\W\d][\w .:/()#-]{0,39}")
"""Names of columns; the first row of a table without any is about a patient."""


class ReportSource(Config):
    """Where reports are, and what their columns mean."""

    path: Path
    """A CSV, TSV or JSONL table, or a folder of text files and DICOM SR."""
    key: str = "study"
    """Column that says which study or series a report is about; a text file is named for its."""
    key_kind: KeyKind = "study_uid"
    """What stands there: the UID of DICOM, a file as `ingest` saw it, or a pseudonym of the
    library. A DICOM SR always names its study itself."""
    text: str | None = None
    """Column of whole reports."""
    sections: Mapping[str, str] = Field(default_factory=dict)
    """Columns of reports that come in pieces: section to column (`findings: Findings_EN`)."""
    identifying: tuple[str, ...] = ()
    """Columns whose every word is removed from the report: names, numbers, institutions."""
    date: str | None = None
    """Column by which the latest report of a study is known; text that sorts, as 2024-05-31."""
    encoding: str = "utf-8"
    """Of tables and text files."""
    delimiter: Annotated[str | None, Field(min_length=1, max_length=1)] = None
    """Between columns; a comma, or a tab for TSV, if not set."""

    @model_validator(mode="after")
    def _encoding_is_known(self) -> Self:
        try:
            "".encode(self.encoding)
        except LookupError:
            raise ValueError(f"unknown encoding {self.encoding!r}: utf-8, cp1252, ...") from None
        return self


@dataclass(frozen=True)
class RawReport:
    """One report before anything was removed from it."""

    place: str
    """Where it came from, without a name: ``row 12``, ``file 3``."""
    key: str = field(repr=False)
    key_kind: KeyKind
    parts: tuple[tuple[str, str], ...] = field(repr=False)
    """Section and text; "" for a section that is yet to be found."""
    known: tuple[str, ...] = field(default=(), repr=False)
    """Values whose every word is to be removed."""
    date: str = field(default="", repr=False)


class Refused(NamedTuple):
    """One report, study or volume that makes no pair, and why."""

    place: str
    """Where it came from, or "" for what the library holds."""
    study_key: str
    """Pseudonym; "" where it is not known."""
    code: str
    reason: str


def read_reports(source: ReportSource, *, keyed: bool = True) -> Iterator[RawReport | Refused]:
    """Yield each report of ``source``, or why it cannot be read.

    Args:
        source: Where they are.
        keyed: Whether a table must say which study each is about.

    Raises:
        InputError: There is no such file, folder or column, or it holds no report at all.
    """
    path = source.path
    if path.is_dir():
        yield from _of_folder(source)
    elif not path.is_file():
        raise InputError(f"there are no reports: {path} does not exist")
    elif path.suffix.lower() in TABLES:
        yield from _of_table(source, keyed=keyed)
    else:
        yield _of_file(path, "file 1", source)


def _of_folder(source: ReportSource) -> Iterator[RawReport | Refused]:
    files = sorted(path for path in source.path.rglob("*") if path.is_file())
    if not files:
        raise InputError(f"there are no reports: {source.path} is empty", hint="is it mounted?")
    for number, path in enumerate(files, start=1):
        yield _of_file(path, f"file {number}", source)


def _of_file(path: Path, place: str, source: ReportSource) -> RawReport | Refused:
    try:
        return _of_readable_file(path, place, source)
    except OSError as error:  # its text would name the file
        return Refused(place, "", "unreadable", f"cannot be read ({type(error).__name__})")


def _of_readable_file(path: Path, place: str, source: ReportSource) -> RawReport | Refused:
    if path.stat().st_size > _MOST_BYTES:
        return Refused(place, "", "too_large", f"larger than {_MOST_BYTES // 10**6} MB: no report")
    try:
        if path.suffix.lower() not in TEXTS and identify(path) == "dicom":
            report = read_structured(path)
            whole = (("", report.text),)
            return RawReport(place, report.study_uid, "study_uid", whole, report.known, report.date)
    except RejectedFileError as error:
        return Refused(place, "", error.code, error.problem)
    if path.suffix.lower() not in TEXTS:
        return Refused(place, "", "no_report", f"neither {', '.join(TEXTS)} nor DICOM SR")
    try:
        text = path.read_bytes().decode(source.encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        return _undecodable(place, error, source)
    return RawReport(place, path.stem, source.key_kind, (("", text),))


def _of_table(source: ReportSource, *, keyed: bool) -> Iterator[RawReport | Refused]:
    keys = (source.key,) if keyed else ()
    wanted = (*keys, *_text_columns(source), *source.identifying)
    for place, row in _rows(source):
        if isinstance(row, Refused):
            yield row
            continue
        missing = [name for name in wanted if name not in row]
        if missing:
            raise _no_column(source, missing, row)
        broken = _not_decoded(row)
        if broken is not None:
            yield Refused(place, "", "encoding", broken + _encoding_hint(source))
            continue
        yield RawReport(
            place,
            row.get(source.key, "").strip(),
            source.key_kind,
            _parts(source, row),
            tuple(value for name in source.identifying if (value := row[name].strip())),
            row.get(source.date or "", ""),
        )


def _text_columns(source: ReportSource) -> tuple[str, ...]:
    columns = (*((source.text,) if source.text else ()), *source.sections.values())
    if not columns:
        raise InputError(
            "no column of the table is said to hold text",
            hint="set sources.text to the column of whole reports, or sources.sections",
        )
    return columns


def _parts(source: ReportSource, row: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    whole = [("", row[source.text])] if source.text else []
    return (*whole, *((name, row[column]) for name, column in source.sections.items()))


def _rows(source: ReportSource) -> Iterator[tuple[str, dict[str, str] | Refused]]:
    """Yield the place of each row and its cells; bytes that are no text come as surrogates."""
    try:
        content = source.path.read_bytes()
        text = content.decode(source.encoding, "surrogateescape").removeprefix("\ufeff")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{source.path} cannot be read as text in {source.encoding} ({type(error).__name__})",
            hint="if the export was written otherwise, set encoding (cp1252, ...)",
        ) from None
    if source.path.suffix.lower() in (".jsonl", ".ndjson"):
        yield from _json_rows(text)
        return
    delimiter = source.delimiter or ("\t" if source.path.suffix.lower() == ".tsv" else ",")
    csv.field_size_limit(_MOST_BYTES)
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    number = 0
    try:
        for number, row in enumerate(rows, start=1):
            if None in row:
                reason = "more cells than there are columns: is a quote or a delimiter missing?"
                yield f"row {number}", Refused(f"row {number}", "", "broken_row", reason)
            else:
                yield f"row {number}", {name: value or "" for name, value in row.items()}
    except csv.Error:
        raise InputError(
            f"{source.path}: the table cannot be read beyond row {number}",
            hint="is it a CSV table in the encoding and with the delimiter that are set?",
        ) from None


def _json_rows(text: str) -> Iterator[tuple[str, dict[str, str] | Refused]]:
    lines = [line for line in text.split("\n") if line.strip()]
    for number, line in enumerate(lines, start=1):
        place = f"row {number}"
        try:
            tree = json.loads(line)
        except (ValueError, RecursionError):
            tree = None
        if isinstance(tree, dict):
            yield place, {str(name): _as_text(value) for name, value in tree.items()}
        else:
            yield place, Refused(place, "", "broken_row", "the line is no JSON object")


def _as_text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _not_decoded(row: Mapping[str, str]) -> str | None:
    for name, value in row.items():
        count = sum("\udc80" <= letter <= "\udcff" for letter in value)
        if count:
            return f"{count} bytes of the column {name!r} are no text"
    return None


def _undecodable(place: str, error: UnicodeDecodeError, source: ReportSource) -> Refused:
    at = f"the byte at {error.start} is no text"
    return Refused(place, "", "encoding", at + _encoding_hint(source))


def _encoding_hint(source: ReportSource) -> str:
    return f" in {source.encoding}; if the export was written otherwise, set encoding (cp1252, ...)"


def _no_column(source: ReportSource, missing: list[str], row: Mapping[str, str]) -> InputError:
    hint = f"it has: {', '.join(map(repr, row))}"
    if not all(map(_COLUMN.fullmatch, row)):
        hint = "its first row does not look like names of columns, so it is not shown here"
    return InputError(
        f"{source.path.name} lacks the columns {', '.join(map(repr, missing))}", hint=hint
    )
