"""Search every byte of a folder for the identifiers of a source: ``medssl privacy-audit``."""

import base64
import gzip
import io
import os
import secrets
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO, cast

from medssl.errors import InputError, MedSSLError
from medssl.io.deidentify import Pseudonymizer
from medssl.io.limits import Limits
from medssl.io.sources.archive import INSIDE, ArchiveConfig, ArchiveSource
from medssl.io.sources.folder import list_files
from medssl.io.sources.opening import set_apart
from medssl.privacy.containers import CannotLookInsideError, Inner, Limited, unpacked
from medssl.privacy.encoded import decoded
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
    unread: int = 0
    """How many files of the source could not be read: only their names are searched for."""
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
        sources: folders, files and archives whose identifiers are searched for.
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
    report = AuditReport(
        len(collected.identifiers), collected.files, collected.left_out, collected.unread
    )
    _Auditor(search, names, report).search_all(request.folder, request.exempt)
    return report


def _collect(request: AuditRequest, key: Pseudonymizer | None) -> Collected:
    parts = []
    if request.sources:
        collector = Collector(Limits(), key)
        refs = list_files(request.sources, Pseudonymizer.ephemeral())
        plain, archives = set_apart(refs, request.sources, ArchiveConfig())
        for ref in track(plain, "Collecting identifiers"):
            collector.collect(ref)
        for archive in track(archives, "Collecting identifiers of archives"):
            _collect_members(archive, collector)
        parts.append(collector.result())
    if request.identifiers is not None:
        if not request.identifiers.is_file():
            raise InputError(f"there is no file {request.identifiers}")
        parts.append(from_list(request.identifiers))
    return joined(parts)


def _collect_members(source: ArchiveSource, collector: Collector) -> None:
    for parcel in source.list_parcels():
        collector.name(parcel.name.removesuffix(INSIDE))
        with tempfile.TemporaryDirectory(prefix="medssl-audit-") as name:
            folder = Path(name, "members")
            for member in source.fetch(parcel, folder):
                collector.refused(member.name)
            if folder.exists():
                for ref in list_files([folder], Pseudonymizer.ephemeral(), may_be_empty=True):
                    collector.collect(ref)


class _Auditor:
    def __init__(self, search: Search, names: Pseudonymizer, report: AuditReport) -> None:
        self.search, self.names, self.report = search, names, report

    def search_all(self, folder: Path, exempt: Sequence[str]) -> None:
        sizes = self._listed(folder)
        with task("Searching (bytes)", sum(sizes.values())) as progress:
            for path, size in sorted(sizes.items()):
                name = path.relative_to(folder).as_posix()
                if any(fnmatchcase(name, pattern) for pattern in exempt):
                    self.report.exempt += 1
                else:
                    self._file(path, name, folder)
                progress.advance(size)

    def _listed(self, folder: Path) -> dict[Path, int]:
        """Return the files below ``folder`` with their sizes, after a look at empty folders."""

        def closed(error: OSError) -> None:
            shown = self._name(Path(error.filename).relative_to(folder).as_posix())
            self._not_read(shown, error)

        sizes: dict[Path, int] = {}
        for root, folders, names in os.walk(folder, onerror=closed):
            for path in (Path(root, name) for name in (*folders, *names)):
                if path.is_symlink() or path.is_file():
                    sizes[path] = path.lstat().st_size
            if not folders and not names:
                self._name(Path(root).relative_to(folder).as_posix())
        return sizes

    def _file(self, path: Path, name: str, folder: Path) -> None:
        shown = self._name(name)
        self.report.files += 1
        try:
            if path.is_symlink():  # what it leads to is searched where it lies
                self._bytes(io.BytesIO(os.fsencode(path.readlink())), shown)
                if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
                    self.report.not_searched[shown] = "a link to a place outside"
                return
            budget = [max(_LEAST_BUDGET_BYTES, _BUDGET_RATIO * path.stat().st_size)]
            with path.open("rb") as stream:
                self._stream(stream, shown, budget, depth=0)
        except OSError as error:
            self._not_read(shown, error)

    def _not_read(self, shown: str, error: OSError) -> None:
        self.report.not_searched[shown] = f"cannot be read ({type(error).__name__})"

    def _stream(
        self,
        stream: BinaryIO,
        shown: str,
        budget: list[int],
        depth: int,
        *,
        was_encoded: bool = False,
    ) -> None:
        """Search a stream that can be rewound, then what is inside it."""
        self._bytes(stream, shown)
        stream.seek(0)
        try:
            inner = unpacked(stream)
            if inner is None and not was_encoded:  # twice over, most of it would be noise
                self._encoded(stream, shown, budget, depth)
            elif inner is None:
                return
            elif depth >= _DEEPEST:
                raise CannotLookInsideError("packed too many times over")
            else:
                self._packed(inner, shown, budget, depth)
        except CannotLookInsideError as error:
            self.report.not_searched[shown] = str(error)

    def _packed(self, inner: Inner, shown: str, budget: list[int], depth: int) -> None:
        for name, content in inner:
            inside = f"{shown}!{self._name(name, within=shown)}"
            with tempfile.SpooledTemporaryFile(max_size=2**25) as copy:
                shutil.copyfileobj(cast(BinaryIO, Limited(content, budget)), copy)
                copy.seek(0)
                self._stream(cast(BinaryIO, copy), inside, budget, depth + 1)

    def _encoded(self, stream: BinaryIO, shown: str, budget: list[int], depth: int) -> None:
        for offset, content in decoded(stream):
            inside = f"{shown}!base64 from {offset}"
            self._stream(io.BytesIO(content), inside, budget, depth, was_encoded=True)

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


def _check_itself(search: Search, planted: Identifier) -> None:
    """Raise unless the search finds a fresh token: plain, packed, encoded and in a name."""
    report = AuditReport(1, 0, {})
    with tempfile.TemporaryDirectory(prefix="medssl-audit-") as name:
        folder = Path(name)
        token = planted.text
        (folder / "plain.bin").write_bytes(os.urandom(4096) + token.encode() + os.urandom(4096))
        (folder / "utf16.bin").write_bytes(token.upper().encode("utf-16-le"))
        (folder / "packed.gz").write_bytes(gzip.compress(token.encode()))
        (folder / "page.html").write_bytes(b"data:;base64," + base64.b64encode(token.encode()))
        with zipfile.ZipFile(folder / "packed.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("member", token)
        (folder / f"name-{token}").touch()
        _Auditor(search, Pseudonymizer.ephemeral(), report).search_all(folder, ())
    places = {
        finding.file.split("!")[0] for finding in report.findings if finding.kind == planted.kind
    }
    if places != {"plain.bin", "utf16.bin", "packed.gz", "packed.zip", "page.html", "name-***"}:
        raise MedSSLError(
            "the search did not find what it had planted: its result is worth nothing"
        )
