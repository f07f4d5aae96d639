"""The record of one stage in its folder: what went in, what came out, what it ran on."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from medssl.errors import FolderError
from medssl.runs.folder import read_json, write_json

FILE = "manifest.json"
FORMAT_VERSION = 1

Summary = dict[str, str | int | float | bool]


@dataclass(kw_only=True)
class Manifest:
    """What ``manifest.json`` holds; ``config`` has no private paths (see ``private.py``)."""

    stage: str
    status: Literal["running", "finished", "failed"]
    config: dict[str, Any]
    config_digest: str
    """SHA-256 of everything in the configuration that can change the result."""
    inputs: dict[str, str]
    outputs: dict[str, str] = field(default_factory=dict)
    seed: int | None = None
    versions: dict[str, str] = field(default_factory=dict)
    mlflow_run_id: str | None = None
    started_at: str = ""
    finished_at: str | None = None
    summary: Summary = field(default_factory=dict)
    look_at: dict[str, str] = field(default_factory=dict)
    error: str | None = None
    """The kind of the exception that ended the stage; never its text, which may name a file."""
    format_version: int = FORMAT_VERSION

    def write(self, folder: Path) -> None:
        """Write ``manifest.json`` into ``folder``, whole or not at all."""
        write_json(folder / FILE, dataclasses.asdict(self))

    @classmethod
    def read(cls, folder: Path) -> "Manifest | None":
        """Return the manifest in ``folder``, or None where there is none.

        Raises:
            FolderError: it was damaged, or written by a newer version.
        """
        path = folder / FILE
        if not path.exists():
            return None
        try:
            return cls(**_known(read_json(path)))
        except (ValueError, TypeError):
            raise FolderError(
                f"{path} is not a manifest that this version of medssl can read",
                hint="use another folder, or remove this one if its content is not needed",
            ) from None


def now() -> str:
    """Return the current time, UTC, in ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _known(tree: Mapping[str, Any]) -> dict[str, Any]:
    if tree.get("format_version") != FORMAT_VERSION:
        raise ValueError
    return dict(tree)
