"""Reports as numbered sentences: what of them is read, and what a training sample shows of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from medssl.config.base import Config
from medssl.reports.laterality import mirrored_words
from medssl.reports.pairs import SECTIONS, Pair
from medssl.reports.sentences import split_sentences

Positive = Annotated[int, Field(gt=0)]


class ReportTextConfig(Config):
    """What is read of a report, and how much of it a training sample shows."""

    sections: tuple[str, ...] = SECTIONS
    """Sections that are read, in the report's order; all of a report that has none of them."""
    by_sentence: bool = True
    """Read sentence by sentence, however long the report is; false: as one text, cut off at
    `max_tokens`."""
    max_tokens: Positive = 64
    """Of a sentence, or of the whole text; what is longer is cut off."""
    max_sentences: Positive = 48
    """Of a report; what a training sample leaves out of a longer one is drawn."""
    keep_sentence: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Chance that a sentence stays in a training sample; one always does."""
    shuffle: bool = False
    """Whether a training sample has the sentences in another order."""


@dataclass(frozen=True)
class ReportText:
    """All different sentences of a set of pairs, and which of them each report is made of."""

    config: ReportTextConfig
    sentences: tuple[str, ...]
    """Each once, the words of mirrored studies included."""
    report_S: tuple[NDArray[np.int64], ...]
    """Of each study, the numbers of its sentences."""
    mirrored_S: tuple[NDArray[np.int64], ...]
    """The same, left and right exchanged; the same numbers where that changes nothing."""

    @classmethod
    def of(cls, pairs: Sequence[Pair], config: ReportTextConfig) -> "ReportText":
        """Return the sentences of ``pairs``."""
        numbers: dict[str, int] = {}

        def numbered(texts: Sequence[str]) -> NDArray[np.int64]:
            return np.array([numbers.setdefault(text, len(numbers)) for text in texts], np.int64)

        read = [_parts(pair, config) for pair in pairs]
        as_they_are = tuple(numbered(texts) for texts in read)
        mirrored = tuple(numbered([mirrored_words(text) for text in texts]) for texts in read)
        return cls(config, tuple(numbers), as_they_are, mirrored)

    def drawn(
        self, study: int, rng: np.random.Generator | None, *, mirrored: bool = False
    ) -> NDArray[np.int64]:
        """Return the sentences that a sample shows of a report, ``max_sentences`` at most.

        Args:
            study: Its position in the pairs.
            rng: Draws what is left out and the order; without, the first sentences as they stand.
            mirrored: Whether left and right are exchanged.
        """
        numbers = (self.mirrored_S if mirrored else self.report_S)[study]
        most = self.config.max_sentences
        if rng is None or len(numbers) == 0:
            return numbers[:most]
        keep = rng.random(len(numbers)) < self.config.keep_sentence
        keep[rng.integers(len(numbers))] = True
        kept = np.flatnonzero(keep)
        if len(kept) > most or self.config.shuffle:
            kept = rng.permutation(kept)[:most]
        return numbers[kept if self.config.shuffle else np.sort(kept)]


def _parts(pair: Pair, config: ReportTextConfig) -> list[str]:
    text = pair.text(config.sections).strip()
    if not text:
        return []
    return [part for part in _split(config)(text) if part.strip()]


def _split(config: ReportTextConfig) -> Callable[[str], Sequence[str]]:
    return split_sentences if config.by_sentence else lambda text: [text]
