"""Search every byte of a folder for the identifiers of a source: ``medssl privacy-audit``."""

import gzip
import io
import os
import secrets
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO, cast

from medssl.errors import InputError, MedSSLError
from medssl.io.deidentify import Pseudonymizer
from medssl.io.limits import Limits
from medssl.io.sources.folder import list_files
from medssl.privacy.containers import CannotLookInsideError, Limited, unpacked
from medssl.privacy.identifiers import Collected, Collector, Identifier, from_list, joined
from medssl.privacy.search import Search, masked
from medssl.runs.progress import task, track

_DEEPEST = 4
_LEAST_BUDGET_BYTES, _BUDGET_RATIO = 2**30, 200
_NAME_LETTERS = 10


@dataclass(frozen=True)
class Finding:
    """One identifier in one file; the identifier itself is told nowhere."""

    file: str
    """Path within the folder, with what identifies in it masked; ``!`` leads into an archive."""
    kind: str
    """What it is in the source: the keyword of an attribute, or a word."""
    identifier: str
    """A keyed pseudonym of it, so that two places with the same one can be told."""
    offset: int
    """The first byte at which it stands; -1 for the file's own name."""
    count: int


@dataclass
class AuditReport:
    """What an audit searched, and what it found."""

    identifiers: int
    source_files: int
    left_out: dict[str, int]
    """Kind to how many values are too short or too common to be searched for."""
    files: int = 0
    bytes: int = 0
    exempt: int = 0
    findings: list[Finding] = field(default_factory=list)
    not_searched: dict[str, str] = field(default_factory=dict)
    """Files that could not be looked into to the end, and why."""

    @property
    def is_clean(self) -> bool:
        """Whether everything was searched and nothing was found."""
        return not self.findings and not self.not_searched

    def as_json(self) -> dict[str, object]:
        """Return the report as a tree."""
        return asdict(self) | {"clean": self.is_clean}


@dataclass(frozen=True)
class AuditRequest:
    """What to search, and for what.

    Attributes:
        folder: every file below it is searched.
        sources: folders and files whose identifiers are searched for.
        identifiers: a text file of further ones, one a line.
        key_file: the key of the pseudonyms; with it, dates that coincide with shifted ones are
            known to be harmless.
        exempt: globs of files within the folder that hold identifiers by design.
    """

    folder: Path
    sources: tuple[Path, ...] = ()
    identifiers: Path | None = None
    key_file: Path | None = None
    exempt: tuple[str, ...] = ()


def audit(request: AuditRequest) -> AuditReport:
    """Search every byte of ``request.folder``.

    Raises:
        InputError: the folder or a source is missing, or the source has nothing to search for.
        MedSSLError: the search did not find what it had planted itself: nothing is known.
    """
    if not request.folder.is_dir():
        raise InputError(f"there is no folder {request.folder}")
    key = Pseudonymizer.from_key_file(request.key_file) if request.key_file else None
    names = key or Pseudonymizer.ephemeral()
    collected = _collect(request, key)
    if not collected.identifiers:
        raise InputError("the source holds nothing that could be searched for")
    planted = Identifier(f"planted-{secrets.token_hex(12)}", "self-check")
    search = Search({*collected.identifiers, planted})
    _check_itself(search, planted)
    report = AuditReport(len(collected.identifiers), collected.files, collected.left_out)
    _Auditor(search, names, report).search_all(request.folder, request.exempt)
    return report


def _collect(request: AuditRequest, key: Pseudonymizer | None) -> Collected:
    parts = []
    if request.sources:
        collector = Collector(Limits(), key)
        for ref in track(
            list_files(request.sources, Pseudonymizer.ephemeral()), "Collecting identifiers"
        ):
            collector.collect(ref)
        parts.append(collector.result())
    if request.identifiers is not None:
        if not request.identifiers.is_file():
            raise InputError(f"there is no file {request.identifiers}")
        parts.append(from_list(request.identifiers))
    return joined(parts)


class _Auditor:
    def __init__(self, search: Search, names: Pseudonymizer, report: AuditReport) -> None:
        self.search, self.names, self.report = search, names, report

    def search_all(self, folder: Path, exempt: Sequence[str]) -> None:
        paths = sorted(_files(folder))
        total = sum(path.lstat().st_size for path in paths)
        with task("Searching (bytes)", total) as progress:
            for path in paths:
                name = path.relative_to(folder).as_posix()
                if any(fnmatchcase(name, pattern) for pattern in exempt):
                    self.report.exempt += 1
                else:
                    self._file(path, name)
                progress.advance(path.lstat().st_size)
        for below in sorted(folder.rglob("*")):
            if below.is_dir() and not any(below.iterdir()):
                self._name(below.relative_to(folder).as_posix())

    def _file(self, path: Path, name: str) -> None:
        shown = self._name(name)
        self.report.files += 1
        if path.is_symlink():  # what it leads to is searched where it lies
            self._bytes(io.BytesIO(os.fsencode(path.readlink())), shown)
            return
        budget = [max(_LEAST_BUDGET_BYTES, _BUDGET_RATIO * path.stat().st_size)]
        try:
            with path.open("rb") as stream:
                self._stream(stream, shown, budget, depth=0)
        except OSError as error:
            self.report.not_searched[shown] = f"cannot be read ({type(error).__name__})"

    def _stream(self, stream: BinaryIO, shown: str, budget: list[int], depth: int) -> None:
        """Search a stream that can be rewound, then what is inside it."""
        self._bytes(stream, shown)
        stream.seek(0)
        try:
            for inner_name, inner in unpacked(stream):
                inside = f"{shown}!{self._name(inner_name, within=shown)}"
                limited = cast(BinaryIO, Limited(inner, budget))
                if depth >= _DEEPEST:
                    raise CannotLookInsideError("packed too many times over")
                with tempfile.SpooledTemporaryFile(max_size=2**25) as copy:
                    shutil.copyfileobj(limited, copy)
                    copy.seek(0)
                    self._stream(cast(BinaryIO, copy), inside, budget, depth + 1)
        except CannotLookInsideError as error:
            self.report.not_searched[shown] = str(error)

    def _bytes(self, stream: BinaryIO, shown: str) -> None:
        hits, size = self.search.in_stream(stream)
        self.report.bytes += size
        self.report.findings += [
            Finding(shown, hit.identifier.kind, self._key(hit.identifier), hit.offset, hit.times)
            for hit in hits
        ]

    def _name(self, name: str, within: str = "") -> str:
        """Return a name with what identifies in it masked, after noting that it does."""
        found = self.search.in_text(name)
        shown = masked(name, _merged([(start, end) for _, start, end in found]))
        place = f"{within}!{shown}" if within else shown
        self.report.findings += [
            Finding(place, identifier.kind, self._key(identifier), -1, 1)
            for identifier in dict.fromkeys(identifier for identifier, _, _ in found)
        ]
        return shown

    def _key(self, identifier: Identifier) -> str:
        return self.names.content_key(identifier.text)[:_NAME_LETTERS]


def _merged(spans: list[tuple[int, int]]) -> dict[int, int]:
    """Return spans that overlap as one: start to end."""
    merged: dict[int, int] = {}
    last = -1
    for start, end in sorted(spans):
        if last >= 0 and start <= merged[last]:
            merged[last] = max(merged[last], end)
        else:
            last, merged[start] = start, end
    return merged


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_symlink() or path.is_file():
            yield path


def _check_itself(search: Search, planted: Identifier) -> None:
    """Raise unless the search finds a fresh token, plain, packed and in a name."""
    report = AuditReport(1, 0, {})
    with tempfile.TemporaryDirectory(prefix="medssl-audit-") as name:
        folder = Path(name)
        token = planted.text
        (folder / "plain.bin").write_bytes(os.urandom(4096) + token.encode() + os.urandom(4096))
        (folder / "utf16.bin").write_bytes(token.upper().encode("utf-16-le"))
        (folder / "packed.gz").write_bytes(gzip.compress(token.encode()))
        with zipfile.ZipFile(folder / "packed.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("member", token)
        (folder / f"name-{token}").touch()
        _Auditor(search, Pseudonymizer.ephemeral(), report).search_all(folder, ())
    places = {
        finding.file.split("!")[0] for finding in report.findings if finding.kind == planted.kind
    }
    if places != {"plain.bin", "utf16.bin", "packed.gz", "packed.zip", "name-***"}:
        raise MedSSLError(
            "the search did not find what it had planted: its result is worth nothing"
        )
