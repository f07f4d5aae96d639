"""Which pieces the words of a set of texts are made of (Wu et al. 2016, arXiv:1609.08144)."""

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final

from pydantic import Field

from medssl.config.base import Config
from medssl.models.tokenizer import Tokenizer

PAD, UNKNOWN, FIRST, LAST, MASK = MARKS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
NUMBER: Final = "#"
"""What stands for every number."""
_NUMBER: Final = r"(?<![\w.,])\d+(?:[.,]\d+)*(?!\w)"
"""One that stands alone: the 2 of T2, or of L2, says something of its own."""


class WordPieceConfig(Config):
    """How words are divided."""

    pieces: Annotated[int, Field(ge=100)] = 8192
    """How many different ones there are, at most."""
    least_seen: Annotated[int, Field(gt=0)] = 3
    """A piece occurs at least so often; a name that occurs less has none of its own."""
    lower_case: bool = True
    """Whether capitals count for nothing."""
    equal_numbers: bool = True
    """Whether all numbers are one word, so that sizes and dates are not learned by heart."""
    whole_words: tuple[str, ...] = (
        *("no", "not", "without", "kein", "keine", "nicht", "ohne", "pas", "sans", "sin", "non"),
        *("senza", "geen", "niet", "zonder"),
    )
    """Never divided, however rare."""


def learn_pieces(texts: Sequence[str], config: WordPieceConfig) -> Tokenizer:
    """Return the tokenizer of a set of texts; accents are kept.

    Args:
        texts: What it is learned from.
        config: How.
    """
    from tokenizers import AddedToken, Regex, normalizers, pre_tokenizers, processors, trainers
    from tokenizers import Tokenizer as Rust
    from tokenizers.models import WordPiece

    rust: Any = Rust(WordPiece(unk_token=UNKNOWN))
    changes: list[Any] = [
        normalizers.BertNormalizer(strip_accents=False, lowercase=config.lower_case)
    ]
    if config.equal_numbers:
        changes.append(normalizers.Replace(Regex(_NUMBER), NUMBER))
    rust.normalizer = normalizers.Sequence(changes)
    rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # The library numbers letters within words as they come out of a hash table, and breaks ties by
    # numbers; given beforehand, as if they were marks, the same texts make the same pieces.
    letters = sorted(set().union(*(rust.normalizer.normalize_str(text) for text in texts)))
    trainer = trainers.WordPieceTrainer(
        vocab_size=config.pieces,
        min_frequency=config.least_seen,
        special_tokens=[*MARKS, *(f"##{letter}" for letter in letters if not letter.isspace())],
        show_progress=False,
    )
    learning: Any = Rust(WordPiece(unk_token=UNKNOWN))
    learning.normalizer, learning.pre_tokenizer = rust.normalizer, rust.pre_tokenizer
    learning.train_from_iterator(texts, trainer)
    rust.model = WordPiece(learning.get_vocab(), unk_token=UNKNOWN)
    rust.add_special_tokens([*MARKS])
    lacking = [w for w in _occurring(config.whole_words, texts) if rust.token_to_id(w) is None]
    rust.add_tokens([AddedToken(word, single_word=True, normalized=True) for word in lacking])
    first, last = rust.token_to_id(FIRST), rust.token_to_id(LAST)
    rust.post_processor = processors.BertProcessing((LAST, last), (FIRST, first))
    return Tokenizer(rust.to_str(), PAD)


def _occurring(words: Iterable[str], texts: Sequence[str]) -> list[str]:
    """Return the words that occur in the texts, whatever their case."""
    return [
        word
        for word in words
        if any(re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) for text in texts)
    ]
