"""Names and values as every tracking server takes them, and databases can hold them."""

import re
from collections.abc import Iterable
from typing import Any

from medssl.runs.digest import digest_bytes

LONGEST_PARAM = 500  # what every MLflow server of the last years accepts
LONGEST_TAG = 5000
LONGEST_NAME = 250


def accepted_names(keys: Iterable[str]) -> dict[str, str]:
    """Return key -> a name that a server takes; different keys stay different."""
    named: dict[str, str] = {}
    taken: set[str] = set()
    for key in keys:
        name = accepted_name(str(key))
        if name in taken:
            name = _marked(name, str(key))
        named[key] = name
        taken.add(name)
    return named


def accepted_name(key: str) -> str:
    """Return ``key`` as a path of letters, digits and ``_-.: `` without empty or dotted parts."""
    allowed = re.sub(r"[^\w\-. /:]", "_", key, flags=re.ASCII)
    parts = [part for part in allowed.split("/") if part]
    name = "/".join("_" if part.strip() in {"", ".", ".."} else part for part in parts) or "_"
    return name if len(name) <= LONGEST_NAME else _marked(name, key)


def accepted_value(value: Any, longest: int) -> str:
    """Return ``value`` as text that fits; what is cut keeps a digest, so that values differ."""
    text = str(value).encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    if len(text) <= longest:
        return text
    end = f"... ({len(text)} characters, {_digest(text)})"
    return text[: longest - len(end)] + end


def _marked(name: str, key: str) -> str:
    return f"{name[: LONGEST_NAME - 9]}_{_digest(key)}"


def _digest(text: str) -> str:
    return digest_bytes(text.encode("utf-8", "replace"))[:8]
