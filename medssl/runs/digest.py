"""SHA-256 of bytes, files and plain data: what two runs must share to be the same."""

import hashlib
import json
from pathlib import Path
from typing import Any

from medssl.runs.folder import plain


def digest_bytes(content: bytes) -> str:
    """Return the hexadecimal SHA-256 of ``content``."""
    return hashlib.sha256(content).hexdigest()


def digest_file(path: Path) -> str:
    """Return the hexadecimal SHA-256 of the file's content, read in pieces."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_json(obj: Any) -> str:
    """Return the hexadecimal SHA-256 of ``obj``, whatever the order of its keys."""
    text = json.dumps(plain(obj), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return digest_bytes(text.encode())
