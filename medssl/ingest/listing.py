"""What a run will read: the files of this machine, and the parcels of everything else."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from medssl.ingest.config import IngestConfig
from medssl.io.deidentify import Pseudonymizer
from medssl.io.sources.base import Listener, ParcelSource
from medssl.io.sources.folder import FileRef, list_files
from medssl.io.sources.opening import open_source, set_apart


@dataclass(frozen=True)
class Sources:
    """The sources of a config, opened."""

    paths: list[Path]
    parcels: list[ParcelSource]


@contextmanager
def opened_sources(config: IngestConfig) -> Iterator[Sources]:
    """Yield the sources; a listener listens meanwhile.

    Raises:
        InputError: an address is of a kind not read here.
        SourceError: an address, or what it needs, cannot be used.
    """
    # Beside the library, since --overwrite empties that, and who sent the images may lack them.
    inbox = config.library.with_name(f"{config.library.name}.received")
    quiet_s = config.follow.quiet_s if config.follow else 0.0
    found = [open_source(text, config, inbox, quiet_s) for text in config.sources]
    paths = [source for source in found if isinstance(source, Path)]
    sources = Sources(paths, [source for source in found if not isinstance(source, Path)])
    started: list[Listener] = []
    try:
        for source in sources.parcels:
            if isinstance(source, Listener):
                source.start()
                started.append(source)
        yield sources
    finally:
        for source in started:
            source.stop()


def list_local(
    sources: Sources, config: IngestConfig, pseudonymizer: Pseudonymizer, *, quiet_s: float | None
) -> tuple[list[FileRef], list[ParcelSource]]:
    """Return the files that lie on this machine, and the archives among them as sources.

    Args:
        sources: the opened sources.
        config: says what to leave out.
        pseudonymizer: makes the file keys.
        quiet_s: leave out folders in which a file is younger, and let a source be empty.

    Raises:
        InputError: when a source does not exist, or holds no file.
    """
    if not sources.paths:
        return [], []
    refs = list_files(
        sources.paths, pseudonymizer, skip=config.library, may_be_empty=quiet_s is not None
    )
    if quiet_s is not None:
        refs = _at_rest(refs, quiet_s)
    plain, archives = set_apart(refs, sources.paths, config.archive, config.exclude)
    return plain, [*archives]


def _at_rest(refs: Sequence[FileRef], quiet_s: float) -> list[FileRef]:
    """Return the files of folders in which nothing was written for ``quiet_s`` seconds."""
    now_ns = time.time_ns()
    busy = {ref.path.parent for ref in refs if 0 <= now_ns - ref.mtime_ns < quiet_s * 1e9}
    return [ref for ref in refs if ref.path.parent not in busy]


def listed(refs: Iterable[FileRef]) -> list[list[str | int]]:
    """Return what of ``refs`` decides whether anything changed since the last run."""
    return [[ref.file_key, ref.bytes, ref.mtime_ns] for ref in refs]
