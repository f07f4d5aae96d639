"""Files that appear whole or not at all."""

import errno
import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

_PARTIAL = ".partial-"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of ``path`` to write; it takes ``path``'s name on success.

    The sibling keeps the suffix, so a writer that goes by it works. It may be a file or a
    folder, and every writer has one of its own: of two at once the last wins, whole. On an
    exception it is removed and ``path`` stays as it was. A killed process leaves a ``.partial-``
    file, which ``sweep_partial`` removes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{_PARTIAL}{uuid4().hex[:8]}-{path.name}")
    try:
        yield partial
        _flush_to_disk(partial)
        if partial.is_dir() and path.is_dir():
            shutil.rmtree(path)
        partial.replace(path)
        _flush_to_disk(path.parent)
    finally:
        _remove(partial)


def is_disk_full(error: OSError) -> bool:
    """Return whether ``error`` says that no room is left, on the disk or of one's share of it."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def sweep_partial(folder: Path) -> None:
    """Remove what writers killed half-way left anywhere below ``folder``."""
    for partial in list(folder.rglob(f"{_PARTIAL}*")):
        _remove(partial)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, whole or not at all."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, obj: Any) -> None:
    """Write ``obj`` to ``path`` as JSON, whole or not at all; NaN and infinity become null."""
    write_text(path, json.dumps(plain(obj), indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Return what the JSON file ``path`` holds."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def plain(obj: Any) -> Any:
    """Return ``obj`` as dicts, lists, strings and finite numbers: what JSON can hold."""
    if isinstance(obj, dict):
        return {str(key): plain(value) for key, value in obj.items()}
    if isinstance(obj, list | tuple | set | frozenset):
        return [plain(item) for item in (sorted(obj) if isinstance(obj, set | frozenset) else obj)]
    if hasattr(obj, "tolist"):  # numpy and torch numbers and arrays
        return plain(obj.tolist())
    if isinstance(obj, float):
        return obj if math.isfinite(obj) else None
    return obj if obj is None or isinstance(obj, str | int) else str(obj)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _flush_to_disk(path: Path) -> None:
    """Sync ``path``; of a folder the entries below it too, when it is not yet in place."""
    if path.is_dir() and path.name.startswith(_PARTIAL):
        for below in path.rglob("*"):
            _sync(below)
    _sync(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
