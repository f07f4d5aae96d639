"""Values of a header that may be absent, misspelt or nonsense: a value of the right kind, or none.

``layers`` are the places to look a value up, the innermost first: a frame's own functional groups,
the shared ones, the data set.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import Tag

_tag = cache(Tag)
"""Looks a keyword up once: frames are asked for dozens of them each."""


def innermost(layers: Sequence[Dataset], keyword: str) -> Dataset:
    """Return the innermost layer that holds ``keyword``, else the outermost."""
    tag = _tag(keyword)
    return next((layer for layer in layers if tag in layer), layers[-1])


def value_of(layers: Sequence[Dataset], keyword: str) -> Any:
    """Return a value, or None where it is absent or cannot be read."""
    try:
        return innermost(layers, keyword).get(keyword)
    except (ValueError, TypeError, ArithmeticError, LookupError):
        return None


def text_of(dataset: Dataset, keyword: str) -> str:
    """Return a value as text, "" where it is absent."""
    value = value_of([dataset], keyword)
    return "" if value is None else str(value).strip()


def words_of(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """Return the words of a value of several, in capitals."""
    value = value_of([dataset], keyword)
    several = [value] if isinstance(value, str) else list(value or [])
    return tuple(str(word).strip().upper() for word in several)


def floats_of(layers: Sequence[Dataset], keyword: str, count: int) -> Any:
    """Return ``count`` finite numbers, or None."""
    value = value_of(layers, keyword)
    try:
        several = value if isinstance(value, MultiValue) else [value]
        numbers = tuple(float(number) for number in several)
    except (ValueError, TypeError, OverflowError):
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None


def integer_of(layers: Sequence[Dataset], keyword: str, default: int = 0) -> int:
    """Return a whole number, or ``default``."""
    number = optional_integer_of(layers, keyword)
    return default if number is None else number


def optional_integer_of(layers: Sequence[Dataset], keyword: str) -> int | None:
    """Return a whole number, or None."""
    numbers = floats_of(layers, keyword, 1)
    return None if numbers is None else int(numbers[0])
