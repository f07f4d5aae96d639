"""What comparing the voxels of two volumes came to, kept: it is the one step that takes long.

A measurement depends on the two volumes and the rules of measuring alone, on no threshold. So it
stands beside the library, serves every later selection, and is not made again after a kill.
"""

import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import xxhash

from medssl.curation.rules.base import CatalogRow
from medssl.curation.verification import SPEC, UNKNOWN, Agreement, Shared

FILE: Final = "comparisons.jsonl"


class Comparisons:
    """Measurements by what they depend on; one line each, on disk as soon as it is known.

    A library that cannot be written to keeps nothing: measuring goes on.
    """

    def __init__(self, library: Path) -> None:
        self.path = Path(library) / FILE
        self._cut_short = False
        self._found: dict[str, Agreement] = dict(self._load())

    def get(self, key: str) -> Agreement | None:
        """Return what is known, by ``content_key``."""
        return self._found.get(key)

    def add(self, key: str, agreement: Agreement) -> None:
        """Keep a measurement. Lines of two runs at once do not mix: each is one write."""
        self._found[key] = agreement
        values = {name: None if math.isnan(x) else x for name, x in asdict(agreement).items()}
        line = json.dumps({"spec": SPEC, "key": key, **values}, separators=(",", ":")) + "\n"
        if self._cut_short:
            line, self._cut_short = "\n" + line, False
        try:
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError:
            return
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)

    def _load(self) -> Iterator[tuple[str, Agreement]]:
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            for line in file:
                self._cut_short = not line.endswith(b"\n")
                try:
                    values: dict[str, Any] = json.loads(line)
                    key, spec = values.pop("key"), values.pop("spec")
                    known = {name: UNKNOWN if x is None else float(x) for name, x in values.items()}
                    found = Agreement(**known)
                except (ValueError, KeyError, TypeError, AttributeError):
                    continue  # cut short by a kill, or damaged: measured again
                if spec == SPEC:
                    yield key, found


def content_key(a: CatalogRow, b: CatalogRow, shared: Shared | None) -> str:
    """Return what names a comparison: the voxels and the places of both, and what they share."""
    content = [
        [row["voxel_digest"], row["intensity"], [float(x).hex() for x in row["affine_ras"]]]
        for row in (a, b)
    ]
    return xxhash.xxh3_128_hexdigest(json.dumps([*content, shared]).encode())
