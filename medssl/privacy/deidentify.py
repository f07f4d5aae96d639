"""The stage that writes DICOM files which may leave: each written, or refused with a reason."""

import csv
import json
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, Self, TextIO

from pydantic import AfterValidator, Field, model_validator

from medssl.config.base import Config
from medssl.errors import RejectedFileError
from medssl.io.deidentify import Pseudonymizer
from medssl.io.limits import Limits
from medssl.io.reasons import reject
from medssl.io.sources.folder import FileRef, list_files
from medssl.library.identity import claim_library
from medssl.privacy.deface import deface_series
from medssl.privacy.files import (
    FileRules,
    clean_file,
    may_show_face,
    name_of,
    read_frames,
    refuse,
    write,
)
from medssl.privacy.header import Dates
from medssl.runs.digest import digest_json
from medssl.runs.folder import atomic_path
from medssl.runs.progress import task
from medssl.runs.stage import StageResult, open_stage
from medssl.runs.tracking import TrackingConfig
from medssl.runs.workers import Workers, map_unordered

VERSION = "2"
"""Goes up when the same file is written otherwise: it is then written again."""

IMAGES, TABLE, JOURNAL = "images", "files.csv", "journal.jsonl"
_FACE = "face_in_view"


def _deface_command(command: str | None) -> str | None:
    if command is not None:
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise ValueError(f"not a command line: {error}") from None
        if not all(any(place in word for word in words) for place in ("{input}", "{output}")):
            raise ValueError("needs {input} and {output}, which become two folders")
    return command


class DeidentifyConfig(Config):
    """Everything ``medssl deidentify`` reads."""

    sources: Annotated[tuple[Path, ...], Field(min_length=1)]
    """Folders and single files to read; they are never written to."""
    out: Path
    """The folder to make or to add to. Its `images/` may leave; the rest is the record."""
    key_file: Path
    """The secret key of the pseudonyms. The same key gives the same pseudonyms as `ingest`."""
    create_key: bool = False
    """Make a new key where `key_file` does not exist, instead of refusing to run."""
    dates: Dates = "shifted"
    """All dates of a patient moved by the same secret number of days, so that distances in time
    stay; or removed. Without times of day the uptake of a PET cannot be computed."""
    characteristics: bool = True
    """Keep sex, weight, size, and the age in bands of ten years."""
    allow_faces: bool = False
    """Write heads as they are. Faces can be recognised from them: ask who is in charge."""
    deface_command: Annotated[str | None, AfterValidator(_deface_command)] = None
    """Command that removes faces, run once per series that may show one. `{input}` is a folder
    of DICOM files without identifiers; for each the command leaves one of the same name and size
    in the folder `{output}`, of which only the pixels are taken."""
    max_volume_mib: Annotated[int, Field(gt=0)] = 4096
    """A file whose header announces more is refused before anything is allocated."""
    workers: Workers = 2
    """Processes, 0 for one per core; or a cluster, as in `ingest`."""
    tracking: TrackingConfig = TrackingConfig()
    """Where the run is recorded."""

    @model_validator(mode="after")
    def _key_lies_elsewhere(self) -> Self:
        if self.key_file.resolve().is_relative_to(self.out.resolve()):
            raise ValueError("key_file must not lie in out, which it would lay open")
        return self


@dataclass(frozen=True, kw_only=True)
class FileResult:
    """What became of one file."""

    file_key: str
    stamp: str
    """Changes with the file and with how it is to be written."""
    outcome: Literal["written", "skipped", "quarantined"]
    reason_code: str = ""
    reason: str = ""
    name: str = ""
    """Where it was written, below ``images/``; or would have been."""


def deidentify(config: DeidentifyConfig, *, overwrite: bool = False) -> StageResult:
    """Write every image of ``config.sources`` without identifiers below ``config.out/images``.

    Every file ends in exactly one of written, skipped and quarantined, with a reason where it was
    not written. A run that was killed continues where it stopped; a later run adds what is new.

    Raises:
        InputError: a source or the key is missing.
        FolderError: the folder was made with another key, or is in use.
    """
    pseudonymizer = Pseudonymizer.from_key_file(config.key_file, create=config.create_key)
    refs = list_files(config.sources, pseudonymizer, skip=config.out)
    listing = [[ref.file_key, ref.bytes, ref.mtime_ns] for ref in refs]
    with open_stage(
        "deidentify",
        config.out,
        config,
        inputs={"files": digest_json(listing), "key": pseudonymizer.key_id},
        tracking=config.tracking,
        overwrite=overwrite,
        incremental=not overwrite,
    ) as run:
        if run.previous is not None:
            return run.previous
        claim_library(config.out, pseudonymizer.key_id)
        results = _Writer(config, pseudonymizer).write_all(refs)
        _write_table(config.out / TABLE, results)
        return run.finish(
            summary=_summary(results),
            look_at={"what may leave": IMAGES, "what became of every file": TABLE},
            outputs={"files": digest_json(sorted(result.stamp for result in results))},
        )


class _Writer:
    """Writes files and remembers in a journal what is done."""

    def __init__(self, config: DeidentifyConfig, pseudonymizer: Pseudonymizer) -> None:
        self.config = config
        self.images, self.journal = config.out / IMAGES, config.out / JOURNAL
        self.rules = FileRules(
            pseudonymizer,
            Limits(config.max_volume_mib * 2**20),
            config.dates,
            config.characteristics,
            config.allow_faces,
        )
        settings = config.model_dump(
            mode="json",
            include={"dates", "characteristics", "allow_faces", "deface_command"},
        )
        self.settings = digest_json([VERSION, settings])

    def write_all(self, refs: Sequence[FileRef]) -> list[FileResult]:
        """Return what became of every file, of those of earlier runs too."""
        done = self._earlier()
        jobs = [(ref, self._stamp(ref)) for ref in refs]
        todo = [(ref, stamp) for ref, stamp in jobs if not self._is_done(done, ref, stamp)]
        self.images.mkdir(exist_ok=True)
        heads: dict[Path, list[tuple[FileRef, str]]] = defaultdict(list)
        refs_of = {ref.file_key: (ref, stamp) for ref, stamp in todo}
        with (
            self.journal.open("a", encoding="utf-8") as journal,
            task("Writing", len(jobs), done=len(jobs) - len(todo)) as progress,
        ):
            work = partial(write_one, self.rules, self.images)
            shared = [self.images, *self.config.sources]
            results = map_unordered(
                work, todo, workers=self.config.workers, crashed=crashed, shared=shared
            )
            for result in results:
                if result.reason_code == _FACE and self.config.deface_command:
                    heads[Path(result.name).parent].append(refs_of[result.file_key])
                    continue
                self._note(journal, result, done)
                progress.advance()
            for jobs_of_series in heads.values():
                for result in self._defaced(jobs_of_series):
                    self._note(journal, result, done)
                    progress.advance()
        self._sweep(done.values())
        return sorted(done.values(), key=lambda result: result.file_key)

    def _defaced(self, jobs: Sequence[tuple[FileRef, str]]) -> Iterable[FileResult]:
        stamps = {ref.file_key: stamp for ref, stamp in jobs}
        paths = {ref.file_key: ref.path for ref, _ in jobs}
        command = shlex.split(self.config.deface_command or "")
        for file_key, found in deface_series(paths, self.rules, command):
            if isinstance(found, RejectedFileError):
                yield _rejected(file_key, stamps[file_key], found)
            else:
                with atomic_path(self.images / found.name) as partial_path:
                    write(found.dataset, partial_path)
                yield _written(file_key, stamps[file_key], found.name)

    def _stamp(self, ref: FileRef) -> str:
        return digest_json([ref.file_key, ref.bytes, ref.mtime_ns, self.settings])[:32]

    def _is_done(self, done: dict[str, FileResult], ref: FileRef, stamp: str) -> bool:
        result = done.get(ref.file_key)
        if result is None or result.stamp != stamp:
            return False
        return result.outcome != "written" or (self.images / result.name).is_file()

    def _earlier(self) -> dict[str, FileResult]:
        """Return what the journal holds; its last line may be cut short by a kill."""
        done: dict[str, FileResult] = {}
        if self.journal.is_file():
            for line in self.journal.read_text(encoding="utf-8").splitlines():
                try:
                    result = FileResult(**json.loads(line))
                except (ValueError, TypeError):
                    continue
                done[result.file_key] = result
        return done

    def _note(self, journal: TextIO, result: FileResult, done: dict[str, FileResult]) -> None:
        done[result.file_key] = result
        journal.write("\n" + json.dumps(asdict(result)) + "\n")
        journal.flush()

    def _sweep(self, results: Iterable[FileResult]) -> None:
        """Remove what was written before and would be refused now."""
        keep = {self.images / result.name for result in results if result.outcome == "written"}
        for path in list(self.images.rglob("*.dcm")):
            if path not in keep:
                path.unlink()


def write_one(rules: FileRules, images: Path, job: tuple[FileRef, str]) -> FileResult:
    """Write one file, or say why not; for workers."""
    ref, stamp = job
    name = Path()
    try:
        frames = read_frames(ref.path, ref.file_key, rules)
        name = name_of(frames[0])
        if not rules.allow_faces and may_show_face(frames, rules.limits):
            raise refuse(_FACE)
        clean = clean_file(frames[0], rules)
        with atomic_path(images / clean.name) as partial_path:
            write(clean.dataset, partial_path)
    except RejectedFileError as error:
        return _rejected(ref.file_key, stamp, error, name)
    return _written(ref.file_key, stamp, clean.name)


def crashed(job: tuple[FileRef, str]) -> FileResult:
    """Return what became of a file that killed its worker."""
    ref, stamp = job
    return _rejected(ref.file_key, stamp, reject("decoder_crashed"))


def _written(file_key: str, stamp: str, name: Path) -> FileResult:
    return FileResult(file_key=file_key, stamp=stamp, outcome="written", name=name.as_posix())


def _rejected(
    file_key: str, stamp: str, error: RejectedFileError, name: Path = Path()
) -> FileResult:
    return FileResult(
        file_key=file_key,
        stamp=stamp,
        outcome="skipped" if error.skipped else "quarantined",
        reason_code=error.code,
        reason=error.problem,
        name=name.as_posix(),
    )


def _write_table(path: Path, results: Sequence[FileResult]) -> None:
    columns = ["outcome", "reason_code", "reason", "file_key", "name"]
    with atomic_path(path) as partial_path, partial_path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(
            asdict(row) | {"name": row.name if row.outcome == "written" else ""} for row in results
        )


def _summary(results: Sequence[FileResult]) -> dict[str, str | int | float | bool]:
    outcomes = Counter(result.outcome for result in results)
    names = [Path(result.name) for result in results if result.outcome == "written"]
    reasons = Counter(result.reason_code for result in results if result.reason_code)
    return {
        "files": len(results),
        "written": outcomes["written"],
        "skipped": outcomes["skipped"],
        "quarantined": outcomes["quarantined"],
        "patients": len({name.parts[0] for name in names}),
        "series": len({name.parent for name in names}),
        **{f"reason.{code}": count for code, count in reasons.most_common()},
    }
