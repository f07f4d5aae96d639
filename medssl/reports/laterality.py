"""Left and right in words: what a report must say of a mirrored image."""

import re
from functools import cache
from importlib.resources import files

import yaml

_FRENCH_RIGHT = {"droit": "gauche", "droits": "gauches"}
"""Masculine forms of the right; the left has one form for both."""


@cache
def _mirror() -> tuple[dict[str, str], re.Pattern[str]]:
    tables = yaml.safe_load(files(__package__).joinpath("laterality.yaml").read_text("utf-8"))
    other = dict[str, str]()
    for table in tables.values():
        other |= table | {right: left for left, right in table.items()}
    other |= _FRENCH_RIGHT
    longest_first = sorted(other, key=len, reverse=True)
    words = "|".join(map(re.escape, longest_first))
    return other, re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE)


def mirrored_words(text: str) -> str:
    """Return ``text`` with left and right exchanged, in the case that each word has.

    In English, German, French, Spanish, Italian and Dutch.
    """
    other, pattern = _mirror()

    def exchange(found: re.Match[str]) -> str:
        word = found.group()
        exchanged = other[word.lower()]
        if word.isupper():
            return exchanged.upper()
        return exchanged.capitalize() if word[0].isupper() else exchanged

    return pattern.sub(exchange, text)
