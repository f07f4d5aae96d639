"""Keep paths of raw scans, and patterns on them, which may hold a name, out of what is shared."""

import os
from pathlib import Path
from typing import Any

import yaml

from medssl.runs.folder import write_text

PRIVATE_FIELDS = frozenset(
    {"sources", "inputs", "key_file", "patient_pattern", "modalities", "exclude", "query"}
)
"""Config fields, at any depth, whose values stay in ``private/`` (readable by its owner only)."""


def without_private(tree: Any) -> Any:
    """Return ``tree`` with the values of PRIVATE_FIELDS replaced by a remark."""
    if isinstance(tree, dict):
        return {
            key: _remark(value) if key in PRIVATE_FIELDS else without_private(value)
            for key, value in tree.items()
        }
    return [without_private(item) for item in tree] if isinstance(tree, list) else tree


def _remark(value: Any) -> Any:
    if not value:
        return value
    count = len(value) if isinstance(value, list | dict) else 1
    return f"not recorded here ({count} value{'s' if count > 1 else ''}); see private/config.yaml"


def write_config(folder: Path, tree: dict[str, Any]) -> None:
    """Write ``config.yaml``; with private values, also ``private/config.yaml`` that has them."""
    shared = without_private(tree)
    write_text(folder / "config.yaml", _to_yaml(shared))
    if shared != tree:
        private = folder / "private"
        private.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = private / "config.yaml"
        path.unlink(missing_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(_to_yaml(tree))


def read_config(folder: Path) -> dict[str, Any] | None:
    """Return the config tree that ``write_config`` left in ``folder``, private values included."""
    for path in (folder / "private" / "config.yaml", folder / "config.yaml"):
        if path.exists():
            return dict(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    return None


def _to_yaml(tree: dict[str, Any]) -> str:
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
