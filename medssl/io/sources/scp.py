"""A listener as a source: what other machines send is collected and offered series by series."""

import os
import shutil
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from pynetdicom.association import Association

from medssl.io.sources.base import Parcel, half_file
from medssl.io.sources.receiver import Peer, Receiver, ReceiverConfig
from medssl.io.sources.retrieval import SeriesUid, identify_instance, write_part
from medssl.runs.digest import digest_bytes, digest_json


class ScpSource:
    """Receives images from ``start`` to ``stop``; a series that came to rest is a parcel.

    What was received stays in a folder of its own, over restarts, until ``release``.
    """

    def __init__(self, url: str, config: ReceiverConfig, inbox: Path, quiet_s: float) -> None:
        """Prepare to listen.

        Args:
            url: ``scp://TITLE@host:port``: the title we answer to, and where we listen.
            config: whose images are taken.
            inbox: where received files wait; private, as they name patients.
            quiet_s: a series is at rest when nothing came for so long, and who sent it hung up.

        Raises:
            SourceError: the address is not understood.
        """
        self.label = url.rstrip("/")
        self._inbox, self._quiet_s = inbox, quiet_s
        self._receiver = Receiver(Peer.of_url(url), config, self._take)
        self._lock = threading.Lock()
        self._open: dict[Path, Association] = {}

    def start(self) -> None:
        """Listen.

        Raises:
            SourceError: the port is taken.
        """
        self._inbox.mkdir(mode=0o700, parents=True, exist_ok=True)
        for part in self._inbox.glob("*.part"):
            part.unlink()  # never acknowledged, so its sender still has it
        self._receiver.start()

    def stop(self) -> None:
        """Stop listening; what was received stays."""
        self._receiver.stop()

    def list_parcels(self) -> Iterable[Parcel]:
        """Yield the series that came to rest."""
        for folder in sorted(self._inbox.glob("*/*")):
            with self._lock:
                parcel = self._parcel(folder) if self._is_at_rest(folder) else None
            if parcel is not None:  # outside of the lock: who lists may fetch before the next
                yield parcel

    def fetch(self, parcel: Parcel, folder: Path) -> None:
        """Show the files of ``parcel`` in ``folder`` too."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = half_file(folder)
        with self._lock:
            for path in sorted(self._folder(parcel).glob("*.dcm")):
                part.unlink(missing_ok=True)
                try:
                    os.link(path, part)
                except OSError:  # a file system without hard links
                    shutil.copy2(path, part)
                part.replace(folder / path.name)

    def release(self, parcel: Parcel) -> None:
        """Delete the received files of ``parcel``, unless more of the series came meanwhile."""
        folder = self._folder(parcel)
        with self._lock:
            if folder.exists() and self._parcel(folder).stamp == parcel.stamp:
                shutil.rmtree(folder)

    def _take(self, content: bytes, link: Association) -> None:
        part = write_part(self._inbox, [content])
        try:
            found = identify_instance(part)
            with self._lock:
                folder = self._inbox / found.study / found.series
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                target = folder / f"{found.instance}.dcm"
                if target.exists() and target.read_bytes() != content:
                    # Two images under one name: both stay, so that the check of the series sees it.
                    target = folder / f"{found.instance}-{digest_bytes(content)[:8]}.dcm"
                part.replace(target)
                self._open[folder] = link
        finally:
            part.unlink(missing_ok=True)

    def _is_at_rest(self, folder: Path) -> bool:
        link = self._open.get(folder)
        if link is not None and link.is_established:
            return False
        self._open.pop(folder, None)
        newest = max((path.stat().st_mtime for path in folder.glob("*.dcm")), default=None)
        return newest is not None and time.time() - newest >= self._quiet_s

    def _folder(self, parcel: Parcel) -> Path:
        series = SeriesUid.of(parcel)
        return self._inbox / series.study / series.series

    def _parcel(self, folder: Path) -> Parcel:
        files = [(path.name, path.stat()) for path in sorted(folder.glob("*.dcm"))]
        stamp = digest_json([[name, facts.st_size, facts.st_mtime_ns] for name, facts in files])
        return Parcel(
            SeriesUid(folder.parent.name, folder.name).name,
            stamp=stamp,
            files=len(files),
            bytes=sum(facts.st_size for _, facts in files),
        )
