"""Sentences of a report: numbers, titles, lists and wrapped lines do not break them."""

import re
from itertools import pairwise
from typing import Final

_ABBREVIATED: Final = """
dr drs prof med mr mrs ms vs no nr approx ca cf e.g i.e fig st resp bzw z.b d.h v.a z.n max min etc
sog ggf evtl inkl bds li re m mme mlle env dott sig sra dhr mw bijv incl
"""
_ABBREVIATIONS: Final = frozenset(_ABBREVIATED.split())
_END: Final = re.compile(r"[.!?]+[\"')\]]*(?=\s|$)|;(?=\s)|\n\s*\n")
_BULLET: Final = re.compile(
    r"(?:^|(?<=\s))[•·▪‣◦](?=\s*\S)|^[ \t]*(?:[-*\u2013]|\d{1,2}[.)])(?=\s)", re.MULTILINE
)
_WRAPPED: Final = re.compile(r"\n(?=[ \t]*[A-ZÄÖÜÉÈÀ0-9])")
_LAST_WORD: Final = re.compile(r"([\w.]+)\.$")
_INITIAL: Final = re.compile(r"\b(?:Dr|Prof|Mr|Mrs|Ms|by)\.?\s+(?:[A-Z]\.\s*)*[A-Z]\.$")
_LOOK_BACK: Final = 24
_SHORT_LINE: Final = 50
"""Letters; a line that ends earlier though the next is longer was not wrapped, it ended."""
_NUMBER: Final = re.compile(r"(?:^|\n|[.;:!?]\s)\s*\d{1,2}\.$")


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Return where each sentence starts and ends, without spaces at its borders.

    A sentence ends with ``.``, ``!``, ``?`` or ``;`` before a space, at an empty line, before a
    bullet, and at the end of a line whose next one starts with a capital or a digit after a line
    that ends a heading or stands alone. The points of decimals, of ``Dr.`` and of ``1.`` at the
    start of a line end nothing, and a line that is only wrapped goes on.
    """
    cuts = {0, len(text)}
    for found in _END.finditer(text):
        if not _goes_on(text, found):
            cuts.add(found.end())
    cuts |= {found.start() for found in _BULLET.finditer(text)}
    cuts |= {found.start() for found in _WRAPPED.finditer(text) if _line_is_whole(text, found)}
    ordered = sorted(cuts)
    spans = (_stripped(text, a, b) for a, b in pairwise(ordered))
    return [(start, end) for start, end in spans if start < end]


def split_sentences(text: str) -> list[str]:
    """Return the sentences of ``text``, each on one line."""
    return [" ".join(text[start:end].split()) for start, end in sentence_spans(text)]


def _goes_on(text: str, found: re.Match[str]) -> bool:
    """Return whether a mark ends no sentence: an abbreviation, or the number of a list."""
    if found.group() != ".":
        return False
    before = text[max(0, found.start() - _LOOK_BACK) : found.end()]
    if _NUMBER.search(before) or _INITIAL.search(before):
        return True
    word = _LAST_WORD.search(before)
    return word is not None and word.group(1).lower() in _ABBREVIATIONS


def _line_is_whole(text: str, found: re.Match[str]) -> bool:
    """Return whether the line before ends a thought: short lines are no wrapped ones."""
    start = text.rfind("\n", 0, found.start()) + 1
    line = text[start : found.start()].rstrip()
    following = text[found.end() : text.find("\n", found.end()) % (len(text) + 1)]
    return line.endswith(":") or len(line) < min(_SHORT_LINE, len(following.strip()))


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())
