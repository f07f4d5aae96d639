"""Collect what could point to a person from a source: every text of its headers and names."""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pydicom import DataElement, Dataset, dcmread
from pydicom.datadict import keyword_for_tag

from medssl.errors import RejectedFileError
from medssl.io.deidentify import Pseudonymizer
from medssl.io.dicom.headers import read_headers
from medssl.io.dicom.stream import PREAMBLE_BYTES, open_dicom
from medssl.io.identify import identify
from medssl.io.limits import Limits
from medssl.io.sources.folder import FileRef
from medssl.io.untrusted import untrusted
from medssl.privacy.allow_list import BY_DESIGN
from medssl.privacy.common_words import says_something
from medssl.privacy.tails import after_pixels, nifti_texts
from medssl.privacy.values import is_standard_meaning, moved_date, several

_RUN = re.compile(rb"[\x20-\x7e\xc0-\xff]{6,}")
_TELLING = re.compile(r"[0-9@^]")
_LONG_WORD = 8
_MOST_RUNS_PER_VALUE = 200
_LONGEST = 64
_SHORTEST_NAME = 5
_SHORTEST_UID = 12
_STANDARD_ROOT = "1.2.840.10008."
_RECENT = timedelta(days=7)
"""Dates of the days of work stand in every log, and cannot be searched for."""


class Identifier(NamedTuple):
    """One text to search for, and what it was."""

    text: str
    kind: str
    """The keyword of its attribute, or a word for where else it stood."""


class Collected(NamedTuple):
    """What was found in a source."""

    identifiers: frozenset[Identifier]
    left_out: dict[str, int]
    """Kind to how many values are too short or too common to be searched for."""
    files: int
    unread: int = 0
    """How many of them tell no more than their names: damaged, locked, or packed once more."""


class Collector:
    """Goes through the files of a source, one after the other."""

    def __init__(self, limits: Limits, pseudonymizer: Pseudonymizer | None = None) -> None:
        self.limits, self.pseudonymizer = limits, pseudonymizer
        self.found: dict[str, str] = {}
        self.left_out: dict[str, set[int]] = {}
        self.dates: dict[str, str] = {}
        self.moved: set[str] = set()
        self.files = self.unread = 0

    def collect(self, ref: FileRef) -> None:
        """Note everything identifying of one file."""
        self.files += 1
        self.name(ref.name)
        try:
            if identify(ref.path) == "nifti":
                for text in nifti_texts(ref.path):
                    self._text(text, "NIfTI header")
            else:
                self._dicom(ref.path)
        except RejectedFileError as error:
            self.unread += error.code != "not_dicom"

    def refused(self, name: str) -> None:
        """Note a file that is known by its name alone."""
        self.files += 1
        self.unread += 1
        self.name(name)

    def name(self, name: str) -> None:
        """Note what identifies in the path of a file within its source."""
        *folders, last = PurePosixPath(name).parts or ("",)
        for folder in folders:
            self._path_part(folder, "folder name")
        self._path_part(last.split(".")[0], "file name")

    def result(self) -> Collected:
        """Return everything noted so far.

        With the key, dates that are also dates after the shift are left out: in a large archive
        they coincide by chance.
        """
        dates = {text: kind for text, kind in self.dates.items() if text not in self.moved}
        for text, kind in self.dates.items():
            if text in self.moved:
                self._leave_out(text, kind)
        everything = self.found | dates
        counts = {kind: len(texts) for kind, texts in sorted(self.left_out.items())}
        found = frozenset(Identifier(text, kind) for text, kind in everything.items())
        return Collected(found, counts, self.files, self.unread)

    def _path_part(self, name: str, kind: str) -> None:
        self._text(name, kind)
        for word in re.split(r"[\W\d_]+", name):
            if word[:1].isupper():  # a name, more likely than a word of every day
                self._text(word, kind)

    def _dicom(self, path: Path) -> None:
        with untrusted("damaged_header"), open_dicom(path, self.limits) as stream:
            start = stream.read(PREAMBLE_BYTES)
            stream.seek(0)
            if stream.read(PREAMBLE_BYTES + 4)[PREAMBLE_BYTES:] == b"DICM":
                self._runs(start, "preamble")
            stream.seek(0)
            dataset = dcmread(stream, stop_before_pixels=True, force=True)
            days = self._days(path)
            self._dataset(dataset.file_meta, days)
            self._dataset(dataset, days)
            for tail in after_pixels(stream, dataset):
                self._runs(tail, "after the pixels")

    def _days(self, path: Path) -> int | None:
        if self.pseudonymizer is None:
            return None
        try:
            header = read_headers(path, "", self.pseudonymizer, self.limits)[0]
        except RejectedFileError:
            return None
        return self.pseudonymizer.day_shift(header.keys.patient)

    def _dataset(self, dataset: Dataset, days: int | None) -> None:
        for tag in list(dataset.keys()):
            try:
                element = dataset[tag]
            except Exception:  # noqa: BLE001, S112  pydicom raises anything on bytes that are no value
                continue
            if not isinstance(element, DataElement):
                continue
            if element.VR == "SQ":
                for item in element.value or []:
                    self._dataset(item, days)
            else:
                self._element(element, days)

    def _element(self, element: DataElement, days: int | None) -> None:
        private = element.tag.is_private
        kind = "private element" if private else keyword_for_tag(element.tag) or "unknown element"
        if kind in BY_DESIGN or (kind == "CodeMeaning" and is_standard_meaning(str(element.value))):
            return
        for value in several(element.value):
            if isinstance(value, bytes):
                self._runs(value, kind)
            elif element.VR == "PN":
                self._name(str(value), kind)
            elif element.VR in {"DA", "DT"}:
                self._date(str(value), kind, days)
            elif element.VR == "UI":
                self._uid(str(value), kind)
            elif element.VR not in {"TM", "AS"} and isinstance(value, str):
                self._text(value, kind)

    def _name(self, name: str, kind: str) -> None:
        for spelled in name.split("="):
            parts = [part.strip() for part in re.split(r"[\^ ,]+", spelled) if part.strip()]
            for joint in ("^", " ", "_", ", ", "") if len(parts) > 1 else ():
                self._text(joint.join(parts), kind)
                self._text(joint.join(reversed(parts[:2])), kind)
            for part in parts:
                if len(part) >= _SHORTEST_NAME or not part.isascii():
                    self._text(part, kind, shortest=_SHORTEST_NAME)
                else:
                    self._leave_out(part, kind)

    def _date(self, value: str, kind: str, days: int | None) -> None:
        text = re.sub(r"[^0-9]", "", value[:10])[:8]
        try:
            when = datetime.strptime(text, "%Y%m%d").replace(tzinfo=UTC).date()
        except ValueError:
            self._leave_out(value, kind)
            return
        if days is not None:
            self.moved.add(moved_date(text, days)[:8])
        if when > _today() - _RECENT:
            self._leave_out(text, kind)
        else:
            self.dates.setdefault(text, kind)

    def _uid(self, value: str, kind: str) -> None:
        if value.startswith(_STANDARD_ROOT) or kind.endswith(("ClassUID", "SyntaxUID")):
            return
        if len(value) >= _SHORTEST_UID:
            self.found.setdefault(value, kind)
        else:
            self._leave_out(value, kind)

    def _runs(self, content: bytes, kind: str) -> None:
        for run in _RUN.findall(content)[:_MOST_RUNS_PER_VALUE]:
            text = run.decode("latin-1")
            self._text(text, kind)
            for word in text.split():  # runs have no borders: what is beside may belong elsewhere
                if len(word) >= _LONG_WORD and _TELLING.search(word):
                    self._text(word, kind)

    def _text(self, text: str, kind: str, *, shortest: int = 6) -> None:
        for line in re.split(r"[\r\n\t\f\0]+", text):
            piece = line.strip()[:_LONGEST].strip()
            if not piece:
                continue
            if len(piece) >= shortest and says_something(piece):
                self.found.setdefault(piece, kind)
            else:
                self._leave_out(piece, kind)

    def _leave_out(self, text: str, kind: str) -> None:
        self.left_out.setdefault(kind, set()).add(hash(text))


def from_list(path: Path) -> Collected:
    """Return the identifiers of a text file, one a line.

    Raises:
        OSError: it cannot be read.
    """
    lines = {line.strip() for line in path.read_text(encoding="utf-8").splitlines()} - {""}
    found = frozenset(Identifier(line, f"line {n}") for n, line in enumerate(sorted(lines), 1))
    return Collected(found, {}, 1)


def joined(parts: Sequence[Collected]) -> Collected:
    """Return several collections as one; a text is kept under the first of its kinds."""
    texts: dict[str, str] = {}
    left_out: dict[str, int] = {}
    for part in parts:
        for text, kind in sorted(part.identifiers):
            texts.setdefault(text, kind)
        for kind, count in part.left_out.items():
            left_out[kind] = left_out.get(kind, 0) + count
    found = frozenset(Identifier(text, kind) for text, kind in texts.items())
    files, unread = sum(part.files for part in parts), sum(part.unread for part in parts)
    return Collected(found, left_out, files, unread)


def spellings(text: str) -> Iterator[str]:
    """Yield how a text may be written: dates in seven ways, the rest as it is."""
    yield text
    if re.fullmatch(r"(?:18|19|20)\d{6}", text):
        year, month, day = text[:4], text[4:6], text[6:]
        for joint in "-./":
            yield joint.join((year, month, day))
            yield joint.join((day, month, year))
        yield f"{month}/{day}/{year}"


def _today() -> date:
    return datetime.now(UTC).date()
