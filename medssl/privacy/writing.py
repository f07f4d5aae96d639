"""Files to files that may leave, in workers; a journal remembers what became of each."""

import json
import shlex
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from medssl.errors import RejectedFileError
from medssl.io.reasons import reject
from medssl.io.sources.folder import FileRef
from medssl.privacy.deface import deface_series
from medssl.privacy.files import (
    CleanFile,
    FileRules,
    clean_file,
    may_show_face,
    name_of,
    read_frames,
    write,
)
from medssl.privacy.refusals import refuse
from medssl.runs.digest import digest_file, digest_json
from medssl.runs.folder import atomic_path
from medssl.runs.progress import task
from medssl.runs.workers import map_unordered

IMAGES, JOURNAL = "images", "journal.jsonl"
_UNNAMED = Path("private", "unnamed")
_FACE = "face_in_view"


class Job(NamedTuple):
    """One file to write."""

    ref: FileRef
    stamp: str
    """Changes with the file and with how it is to be written."""


@dataclass(frozen=True, kw_only=True)
class FileResult:
    """What became of one file."""

    file_key: str
    stamp: str
    """That of its job."""
    outcome: Literal["written", "skipped", "quarantined"]
    reason_code: str = ""
    reason: str = ""
    name: str = ""
    """Where it was written, below ``images/``; or would have been."""
    digest: str = ""
    """Of the bytes that were written."""


class Writer:
    """Writes files and remembers in a journal what is done.

    A file is written under its key, and then takes its name: two files of one name, in two
    workers, do not meet. The first of them by key has the name, whichever was ready first.
    """

    def __init__(
        self,
        out: Path,
        rules: FileRules,
        *,
        settings: str,
        deface_command: str | None,
        workers: int | str,
    ) -> None:
        """Read the journal of earlier runs.

        Args:
            out: the folder to write to.
            rules: what files are held to.
            settings: changes with all that makes other files of the same ones.
            deface_command: what is run on a series that may show a face.
            workers: see ``Workers``.
        """
        self.images, self._unnamed, self._journal = out / IMAGES, out / _UNNAMED, out / JOURNAL
        self._rules, self._settings, self._workers = rules, settings, workers
        self._deface_command = shlex.split(deface_command or "")
        self._done = {result.file_key: result for result in _earlier(self._journal)}
        self._holders: dict[str, str] = {}
        """Name -> key of the file that has it."""
        for key, result in sorted(self._done.items()):
            if result.outcome == "written":
                self._holders.setdefault(result.name, key)
        self.images.mkdir(exist_ok=True)

    def write(self, refs: Sequence[FileRef], shared: Sequence[Path] = ()) -> None:
        """Write what of ``refs`` is not done yet; workers find them below ``shared``."""
        jobs = {ref.file_key: Job(ref, self._stamp(ref)) for ref in refs}
        for key, job in jobs.items():
            if key in self._done and self._done[key].stamp != job.stamp:
                self._forget(key)  # at once: what is written by other rules now must not stay
        todo = [job for key, job in jobs.items() if key not in self._done or self._is_lost(key)]
        self._unnamed.mkdir(parents=True, exist_ok=True)
        heads: dict[str, Path] = {}
        with task("Writing", len(jobs), done=len(jobs) - len(todo)) as progress:
            work = partial(write_one, self._rules, self._unnamed)
            folders = [self._unnamed, *shared]
            for result in map_unordered(
                work, todo, workers=self._workers, crashed=crashed, shared=folders
            ):
                if result.reason_code == _FACE and self._deface_command:
                    heads[result.file_key] = Path(result.name).parent
                    continue
                self._note(result)
                progress.advance()
            for result in self._defaced(jobs, heads) if heads else ():
                self._note(result)
                progress.advance(int(result.file_key in heads))
        shutil.rmtree(self._unnamed)

    def refuse(self, ref: FileRef, error: RejectedFileError) -> None:
        """Note that ``ref`` was refused before there was a file to look into."""
        self._note(_rejected(ref.file_key, self._stamp(ref), error))

    def lost(self) -> Iterator[str]:
        """Yield the keys of files that were written, and are gone."""
        return filter(self._is_lost, self._done)

    def results(self) -> list[FileResult]:
        """Return what became of every file, of those of earlier runs too, sorted by key."""
        return [self._settled(result) for _, result in sorted(self._done.items())]

    def sweep(self) -> None:
        """Remove images that nothing is known of."""
        keep = {self.images / name for name in self._holders}
        for path in list(self.images.rglob("*.dcm")):
            if path not in keep:
                path.unlink()

    def _defaced(self, jobs: dict[str, Job], heads: dict[str, Path]) -> Iterator[FileResult]:
        """Yield the results of every series of ``heads``, which is defaced as a whole.

        Also where part of it was done before: in half a head, a face may not be found.
        """
        wanted = set(heads.values())
        members: dict[Path, list[Job]] = defaultdict(list)
        for key, job in jobs.items():
            series = heads.get(key) or Path(self._done[key].name).parent
            if series in wanted:
                members[series].append(job)
        for series, together in sorted(members.items()):
            paths = {job.ref.file_key: job.ref.path for job in together}
            for key, found in deface_series(paths, self._rules, self._deface_command):
                try:
                    if isinstance(found, RejectedFileError):
                        raise found
                    yield _write(found, self._unnamed, jobs[key])
                except RejectedFileError as error:
                    yield _rejected(key, jobs[key].stamp, error, series / key)

    def _stamp(self, ref: FileRef) -> str:
        return digest_json([ref.file_key, ref.bytes, ref.mtime_ns, self._settings])[:32]

    def _is_lost(self, key: str) -> bool:
        result = self._done[key]
        return result.outcome == "written" and not (self.images / result.name).is_file()

    def _forget(self, key: str) -> None:
        name = self._done.pop(key).name
        if self._holders.get(name) == key:
            del self._holders[name]
            (self.images / name).unlink(missing_ok=True)

    def _note(self, result: FileResult) -> None:
        """Give a written file its name, and remember the result."""
        if result.outcome == "written":
            fresh = self._unnamed / f"{result.file_key}.dcm"
            if result.file_key <= self._holders.get(result.name, result.file_key):
                self._holders[result.name] = result.file_key
                target = self.images / result.name
                target.parent.mkdir(parents=True, exist_ok=True)
                fresh.replace(target)
            else:
                fresh.unlink()
        self._done[result.file_key] = result
        with self._journal.open("a", encoding="utf-8") as journal:
            journal.write("\n" + json.dumps(asdict(result)) + "\n")

    def _settled(self, result: FileResult) -> FileResult:
        """Return ``result``, or what it comes to where another file has its name."""
        holder = self._holders.get(result.name, result.file_key)
        if result.outcome != "written" or holder == result.file_key:
            return result
        same = result.digest == self._done[holder].digest
        error = reject("duplicate_slice" if same else "sop_uid_conflict")
        return _rejected(result.file_key, result.stamp, error, Path(result.name))


def _earlier(journal: Path) -> Iterator[FileResult]:
    """Yield what the journal holds; its last line may be cut short by a kill."""
    if journal.is_file():
        for line in journal.read_text(encoding="utf-8").splitlines():
            try:
                yield FileResult(**json.loads(line))
            except (ValueError, TypeError):
                continue


def write_one(rules: FileRules, folder: Path, job: Job) -> FileResult:
    """Write one file into ``folder`` under its key, or say why not; for workers."""
    name = Path()
    try:
        frames = read_frames(job.ref.path, job.ref.file_key, rules)
        name = name_of(frames[0])
        if not rules.allow_faces and may_show_face(frames, rules.limits):
            raise refuse(_FACE)
        return _write(clean_file(frames[0], rules), folder, job)
    except RejectedFileError as error:
        return _rejected(job.ref.file_key, job.stamp, error, name)


def crashed(job: Job) -> FileResult:
    """Return what became of a file that killed its worker."""
    return _rejected(job.ref.file_key, job.stamp, reject("decoder_crashed"))


def _write(clean: CleanFile, folder: Path, job: Job) -> FileResult:
    path = folder / f"{job.ref.file_key}.dcm"
    with atomic_path(path) as partial_path:
        write(clean.dataset, partial_path)
    return FileResult(
        file_key=job.ref.file_key,
        stamp=job.stamp,
        outcome="written",
        name=clean.name.as_posix(),
        digest=digest_file(path),
    )


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
