"""Phrases as people write them into YAML, compiled to regular expressions that cannot run wild.

A phrase is words. ``*`` stands for the rest of a word (``effusion*``), ``a|b`` for either word, a
word that ends with ``?`` may be missing, and ``~`` stands for up to ten words in between. Case does
not count, and between two words there may be a space, a hyphen, a slash, a comma or a bracket.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import yaml

from medssl.errors import InputError

_BETWEEN: Final = r"""[\s\-/,()'"]{1,3}"""
_GAP_WORDS: Final = 10
_GAP: Final = rf"(?:{_BETWEEN}\w[\w.%]*){{0,{_GAP_WORDS}}}?"
_CACHED: Final = 64


def expression_of(phrase: str) -> str:
    """Return the regular expression of one phrase, without its borders.

    Raises:
        ValueError: It holds no word, or begins or ends with a gap.
    """
    words = phrase.split()
    if not words or "~" in (words[0], words[-1]) or all(word.endswith("?") for word in words):
        raise ValueError(f"{phrase!r} is no phrase: it needs a word, and words around each gap")
    expression, before = "", ""
    for word in words:
        if word == "~":
            expression += _GAP
        elif word.endswith("?"):
            written = _word(word[:-1])
            expression += rf"(?:{before}{written})?" if before else rf"(?:{written}{_BETWEEN})?"
            continue
        else:
            expression += before + _word(word)
        before = _BETWEEN
    return expression


def _word(word: str) -> str:
    either = "|".join(re.escape(each).replace(r"\*", r"\w*") for each in word.split("|"))
    return f"(?:{either})" if "|" in word else either


def stems_of(phrase: str) -> tuple[str, ...]:
    """Return the shortest list of texts of which every match of ``phrase`` holds one.

    They are the alternatives of its longest word, in small letters; "" where nothing is certain.
    """
    words = [word for word in phrase.split() if word != "~" and not word.endswith("?")]
    either = [[_longest_part(each) for each in word.split("|")] for word in words]
    return tuple(max(either, key=lambda stems: min(map(len, stems)), default=[""]))


def _longest_part(word: str) -> str:
    return max(word.lower().split("*"), key=len)


def compiled(phrases: Iterable[str]) -> re.Pattern[str] | None:
    """Return one pattern that finds any of ``phrases``, longer ones first; None without any.

    Raises:
        ValueError: One of them is no phrase.
    """
    phrases = list(phrases)
    wrong = [each for each in phrases if not isinstance(each, str)]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is no text: in YAML the words yes, no and on need quotes")
    expressions = [expression_of(each) for each in sorted(phrases, key=len, reverse=True)]
    if not expressions:
        return None
    return re.compile(rf"(?<!\w)(?:{'|'.join(expressions)})(?!\w)", re.IGNORECASE)


def read_shipped(name: str) -> dict[str, Any]:
    """Return the mapping of a YAML file of this package."""
    return dict(yaml.safe_load(files(__package__).joinpath(name).read_text("utf-8")))


@lru_cache(maxsize=_CACHED)
def read_phrases(path: Path | None, shipped: str) -> dict[str, Any]:
    """Return the mapping of a user's YAML file, or of the one that is shipped.

    Raises:
        InputError: The user's file cannot be read, or is no mapping.
    """
    if path is None:
        return read_shipped(shipped)
    try:
        tree = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read as YAML ({type(error).__name__})") from None
    if not isinstance(tree, dict):
        raise InputError(f"{path} holds no mapping", hint=f"the shipped one is {shipped}")
    return tree
