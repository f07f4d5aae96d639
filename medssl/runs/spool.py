"""A write-ahead record of what is to be sent elsewhere: appended at once, sent when it can be."""

import json
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medssl.runs.digest import digest_bytes
from medssl.runs.folder import read_json, write_json

_CHUNK_BYTES = 512 * 1024
_COMPACT_BYTES = 1024 * 1024

Event = dict[str, Any]


class Spool:
    """The events of one tracked run, in ``folder``; memory use does not grow with their number.

    ``run.json`` says what the run is, ``events.jsonl`` holds the events, ``sent.json`` how far
    they were sent, and ``remote.json`` the run's id at the place they are sent to.
    One process appends, one thread of it sends; ``offset`` is how far it is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._events = self.folder / "events.jsonl"
        self._lock = threading.Lock()
        self._checked = False
        sent = self._read("sent.json")
        self.offset: int = sent.get("offset", 0)
        self._steps: dict[str, int] = sent.get("steps", {})
        if self.offset > self._size():  # killed between compacting's two steps
            self.offset = 0

    @property
    def identity(self) -> dict[str, Any]:
        """What the run is: name, experiment, destination, parent."""
        return self._read("run.json")

    def describe(self, identity: Mapping[str, Any]) -> None:
        """Record what the run is, unless that is already there."""
        if self.identity != dict(identity):
            write_json(self.folder / "run.json", identity)

    def remote_id(self, uri: str) -> str | None:
        """Return the run's id at ``uri``, if it was created there."""
        remote = self._read("remote.json")
        return remote["run_id"] if remote.get("uri") == uri else None

    def set_remote_id(self, uri: str, run_id: str) -> None:
        """Record the run's id at ``uri``."""
        write_json(self.folder / "remote.json", {"uri": uri, "run_id": run_id})

    def last_steps(self) -> dict[str, int]:
        """Return the last step of every metric recorded so far, sent or not."""
        steps = dict(self._steps)
        for event in self._unsent():
            _note_steps(steps, event)
        return steps

    def append(self, event: Event) -> None:
        """Add one event; it survives the death of this process."""
        line = json.dumps(event) + "\n"
        with self._lock:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._torn():
                line = "\n" + line
            with self._events.open("a", encoding="utf-8") as file:
                file.write(line)

    def next_events(self) -> tuple[list[Event], int]:
        """Return some unsent events, oldest first, and the offset behind them."""
        return self._read_events(self.offset)

    def mark_sent(self, events: list[Event], offset: int) -> None:
        """Remember that everything before ``offset`` was sent."""
        for event in events:
            _note_steps(self._steps, event)
        with self._lock:
            self.offset = offset
            compact = offset >= _COMPACT_BYTES and offset == self._size()
            if compact:
                self.offset = 0
            self._write_sent()
            if compact:  # last: killed in between, events are sent twice, which does no harm
                with self._events.open("r+b") as file:
                    file.truncate(0)

    def pending(self) -> bool:
        """Return whether something is still to be sent."""
        return self.offset < self._size()

    def close(self) -> None:
        """Drop the events once all of them were sent."""
        with self._lock:
            if self._events.exists() and not self.pending():
                self.offset = 0
                self._write_sent()
                self._events.unlink()

    def _write_sent(self) -> None:
        write_json(self.folder / "sent.json", {"offset": self.offset, "steps": self._steps})

    def _unsent(self) -> Iterator[Event]:
        events, offset = self.next_events()
        while events:
            yield from events
            events, offset = self._read_events(offset)

    def _read_events(self, start: int) -> tuple[list[Event], int]:
        if not self._events.exists():
            return [], start
        with self._events.open("rb") as file:
            file.seek(start)
            chunk = file.read(_CHUNK_BYTES)
            if b"\n" not in chunk:
                chunk += file.readline()
        whole = chunk[: chunk.rfind(b"\n") + 1]
        return list(_parse(whole)), start + len(whole)

    def _torn(self) -> bool:
        """Return whether the last line was cut short, which needs a look only once."""
        if self._checked or self._size() == 0:
            return False
        self._checked = True
        with self._events.open("rb") as file:
            file.seek(-1, 2)
            return file.read(1) != b"\n"

    def _size(self) -> int:
        return self._events.stat().st_size if self._events.exists() else 0

    def _read(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        return dict(read_json(path)) if path.exists() else {}


def slug(key: str) -> str:
    """Return ``key`` as part of a folder's name; different keys stay different."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", key).strip("-")[:40]
    return plain if plain == key else f"{plain}-{digest_bytes(key.encode())[:6]}"


def _parse(lines: bytes) -> Iterator[Event]:
    for line in lines.splitlines():
        try:
            event = json.loads(line)
        except ValueError:  # torn by a full disk or a power cut; the rest is whole
            continue
        if isinstance(event, dict):
            yield event


def _note_steps(steps: dict[str, int], event: Event) -> None:
    for name in event.get("metrics", ()):
        steps[name] = max(steps.get(name, 0), event["step"])
