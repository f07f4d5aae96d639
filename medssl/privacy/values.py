"""What may stand in an attribute that may leave: numbers, known words, dates that were moved."""

import math
import re
from collections.abc import Iterator
from datetime import date, timedelta
from functools import cache
from typing import Any

from pydicom.multival import MultiValue
from pydicom.sr._snomed_dict import mapping as _SNOMED  # old codes to new: shown nowhere else
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.tag import BaseTag

from medssl.privacy.allow_list import KERNEL, MANUFACTURERS, WORDS

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_DATE = re.compile(r"(\d{4})[.]?(\d{2})[.]?(\d{2})(.*)", re.DOTALL)
_TIME = r"(?:[01]\d|2[0-3])(?::?[0-5]\d(?::?(?:[0-5]\d|60)(?:\.\d{1,6})?)?)?"
_CLOCK = re.compile(rf"(?:{_TIME})?")
_REST_OF_DATETIME = re.compile(rf"(?:{_TIME})?(?:[+-](?:0\d|1[0-4])[0-5]\d)?")
_OLDEST_AGE_BAND, _AGE_BAND_YEARS = 90, 10
_LONGEST_MEANING = 64
_SCHEMES = ("DCM", "SCT", "UCUM")
_OLD_SNOMED = frozenset({"SRT", "SNM3", "99SDM"})


def several(value: Any) -> list[Any]:
    """Return the values of an element as a list; none where it is empty."""
    if isinstance(value, MultiValue | list | tuple):
        return list(value)
    return [] if value is None or value == "" else [value]


def numbers(value: Any) -> Any:
    """Return the numbers as they were written, or None where one of them is no number."""
    found = several(value)
    texts = [str(int(n) if isinstance(n, BaseTag) else n).strip() for n in found]
    if not all(_NUMBER.fullmatch(text) and math.isfinite(float(text)) for text in texts):
        return None
    return _joined(found)


def terms(value: Any) -> list[str]:
    """Return the values that are known words, in capital letters."""
    return [word for word in words(value) if word in WORDS]


def words(value: Any) -> list[str]:
    """Return the values in capital letters."""
    return [str(word).strip().upper() for word in several(value)]


def kernels(value: Any) -> list[str]:
    """Return the reconstruction kernels that are codes or known words."""
    names = [str(word).strip() for word in several(value)]
    return [name for name in names if name.upper() in WORDS or re.fullmatch(KERNEL, name)]


def manufacturer(value: Any) -> str:
    """Return the known manufacturer that the text names, or ""."""
    text = " ".join(words(value))
    return next((name for name in MANUFACTURERS if re.search(rf"\b{name}\b", text)), "")


def moved_date(value: Any, days: int) -> str:
    """Return a DA or DT ``days`` later; "" for what is no whole date, whose time stays."""
    found = _DATE.fullmatch(str(value).strip())
    if found is None or not _REST_OF_DATETIME.fullmatch(found[4]):
        return ""
    try:
        moved = date(int(found[1]), int(found[2]), int(found[3])) + timedelta(days=days)
    except (ValueError, OverflowError):
        return ""
    return f"{moved:%Y%m%d}".rjust(8, "0") + found[4]


def clock(value: Any) -> str:
    """Return a TM, or "" for what is none."""
    text = str(value).strip()
    return text if _CLOCK.fullmatch(text) else ""


def age_band(value: Any) -> str:
    """Return an AS as the first year of its band of ten: 040Y; 090Y for all of 90 and above."""
    found = re.fullmatch(r"(\d{3})([DWMY])", str(value).strip())
    if found is None:
        return ""
    years = int(found[1]) if found[2] == "Y" else 0
    return f"{min(years // _AGE_BAND_YEARS * _AGE_BAND_YEARS, _OLDEST_AGE_BAND):03d}Y"


def standard_code(value: str, scheme: str) -> tuple[str, str, str] | None:
    """Return (value, scheme, meaning) of a code, the meaning as the standard has it, or None."""
    meaning = _meanings().get((scheme, value))
    if meaning is None and scheme in _OLD_SNOMED:
        meaning = _meanings().get(("SCT", _SNOMED["SRT"].get(value, "")))
    return None if meaning is None else (value, scheme, meaning[:_LONGEST_MEANING])


def is_standard_meaning(text: str) -> bool:
    """Return whether ``text`` is the standard's meaning of some code."""
    return text.strip().lower() in _known_meanings()


@cache
def _known_meanings() -> frozenset[str]:
    return frozenset(meaning.lower() for meaning in _meanings().values())


@cache
def _meanings() -> dict[tuple[str, str], str]:
    return {(code.scheme_designator, code.value): code.meaning for code in _codes()}


def _codes() -> Iterator[Code]:
    for scheme in _SCHEMES:
        collection = getattr(codes, scheme)
        for name in collection.dir():
            yield getattr(collection, name)


def _joined(found: list[Any]) -> Any:
    return found[0] if len(found) == 1 else found or ""
