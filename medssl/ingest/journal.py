"""The durable record of finished items: one line each, appended before the next is begun.

A process killed at any moment loses at most the line it was writing, and with it one item,
whose volume file is then written again over itself. So does a line that was damaged since.
"""

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from medssl.ingest.items import ItemResult
from medssl.library.catalog import ADDED, COLUMNS
from medssl.library.outcomes import FileOutcome
from medssl.runs.folder import write_text

_log = logging.getLogger(__name__)

FILE = "journal.jsonl"
_BINARY = ("dct_full", "dct_bbox")


class Journal:
    """The finished items of a library, by item key; the latest line of a key counts."""

    def __init__(self, library: Path) -> None:
        self.path = Path(library) / FILE
        self.results = dict(self._load())

    def append(self, result: ItemResult) -> None:
        """Record ``result``; it is on disk when this returns."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_to_line(result))
            file.flush()
            os.fsync(file.fileno())
        self.results[result.key] = result

    def replace(self, results: Iterable[ItemResult]) -> None:
        """Keep only ``results``, in the order of their keys; whole or not at all."""
        self.results = {result.key: result for result in sorted(results, key=lambda r: r.key)}
        write_text(self.path, "".join(map(_to_line, self.results.values())))

    def _load(self) -> Iterable[tuple[str, ItemResult]]:
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):  # the line that a kill cut short
            os.truncate(self.path, whole)
        damaged = 0
        for line in content[:whole].splitlines():
            try:
                result = _from_line(line)
            except (ValueError, KeyError, TypeError):
                damaged += 1
                continue
            yield result.key, result
        if damaged:
            _log.warning(
                "%d damaged line(s) of %s were left out. Scans they told of are converted again "
                "if they are in the sources of this run; else ingest their sources again.",
                damaged,
                FILE,
            )


def _to_line(result: ItemResult) -> str:
    tree = {
        "key": result.key,
        "signature": result.signature,
        "files": [vars(row) for row in result.files],
        "volumes": [row | {name: row[name].hex() for name in _BINARY} for row in result.volumes],
    }
    return json.dumps(tree, separators=(",", ":"), allow_nan=False) + "\n"


def _from_line(line: bytes) -> ItemResult:
    tree: dict[str, Any] = json.loads(line)
    tree["volumes"] = [dict.fromkeys(ADDED) | row for row in tree["volumes"]]
    for row in tree["volumes"]:
        row |= {name: bytes.fromhex(row[name]) for name in _BINARY}
        if row.keys() != COLUMNS.keys():
            raise ValueError("not a row of the catalog")
    return ItemResult(
        key=tree["key"],
        signature=tree["signature"],
        files=tuple(FileOutcome(**row) for row in tree["files"]),
        volumes=tuple(tree["volumes"]),
    )
