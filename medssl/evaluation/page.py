"""Pages of evaluations: a look and macros of their own, no script, nothing fetched."""

import base64
import math
import struct
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from jinja2 import DictLoader, Environment, StrictUndefined

from medssl.runs.folder import write_text

_SHARED: Final = ("page.html", "macros.html")
_DIGITS: Final = 3
_LEAST_P: Final = 0.001
NOT_MEASURED: Final = "not measured"


def write_page(path: Path, template: str, **facts: Any) -> None:
    """Fill a template of this package and write it, whole or not at all.

    A template extends ``page.html`` and may import ``macros.html``. Text is escaped.

    Args:
        path: Of the page.
        template: Its name.
        facts: What it is filled with.
    """
    folder = files("medssl.evaluation")
    templates = {
        name: folder.joinpath(name).read_text(encoding="utf-8") for name in (*_SHARED, template)
    }
    environment = Environment(
        loader=DictLoader(templates),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number, "signed": signed, "p_value": p_value, "known": is_known,
    }  # fmt: skip
    write_text(path, environment.get_template(template).render(**facts))


def inline(path: Path) -> dict[str, Any]:
    """Return a PNG as ``source``, the address of an image within a page, and its ``width_px``."""
    png = path.read_bytes()
    (width_px,) = struct.unpack(">I", png[16:20])
    source = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
    return {"source": source, "width_px": width_px}


def is_known(value: float | None) -> bool:
    """Return whether there is a number; JSON has null where Python has NaN."""
    return value is not None and not math.isnan(value)


def number(value: float | None) -> str:
    """Return a number for people: three digits, of large ones no more than are worth reading."""
    if value is None or math.isnan(value):
        return NOT_MEASURED
    if not math.isfinite(value):
        return "infinite"
    whole = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    return f"{value:.{max(_DIGITS - max(whole - 1, 0), 0)}f}".replace("-", "\N{MINUS SIGN}")


def signed(value: float | None) -> str:
    """Return the same with its sign."""
    text = number(value)
    return f"+{text}" if is_known(value) and value is not None and value > 0 else text


def p_value(found: Mapping[str, Any]) -> str:
    """Return the p-value of a difference, corrected where it was."""
    value = found.get("p_holm", found.get("p_value"))
    if value is None or math.isnan(value):
        return NOT_MEASURED
    return f"< {_LEAST_P}" if value < _LEAST_P else f"{value:.3f}"
