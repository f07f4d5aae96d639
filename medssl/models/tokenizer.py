"""Text to token numbers, by the tokenizers library; a small object that loader processes copy.

Suffixes: N texts, L tokens.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from medssl.errors import InputError
from medssl.runs.folder import write_text


class Encoded(NamedTuple):
    """Texts as numbers, padded on the right to the longest."""

    ids_NL: Tensor
    """int64."""
    mask_NL: Tensor
    """Whether there is a token, those that mark begin and end among them."""
    spans_NL2: Tensor
    """int64: first character of each token in its text and the one after its last; (0, 0) for
    marks and padding."""


class Tokenizer:
    """How one text encoder divides text; pickled with all it needs.

    Args:
        description: JSON as the tokenizers library writes it (``tokenizer.json``).
        pad: The token that fills up short texts.

    Raises:
        InputError: The description cannot be read, or does not have the token ``pad``.
    """

    def __init__(self, description: str, pad: str) -> None:
        # Its threads do not survive the fork that makes loader processes.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        try:
            from tokenizers import Tokenizer as Rust
        except ImportError:
            raise InputError(
                "texts are read with the package tokenizers, which is not installed",
                hint="pip install 'medssl[text]'",
            ) from None
        try:
            rust = Rust.from_str(description)
        except Exception as error:  # the library knows no narrower one
            raise InputError(
                f"the description of a tokenizer cannot be read ({type(error).__name__})",
                hint="copy tokenizer.json again from where the model comes from",
            ) from error
        pad_id = rust.token_to_id(pad)
        if pad_id is None:
            raise InputError(
                f"the tokenizer has no token {pad!r} to fill up short texts with",
                hint="tokenizer files and model belong to different models, or are damaged",
            )
        rust.enable_padding(pad_id=pad_id, pad_token=pad, direction="right")
        rust.no_truncation()
        self._rust: Any = rust

    @classmethod
    def read(cls, path: Path) -> "Tokenizer":
        """Return the tokenizer that :meth:`write` wrote.

        Raises:
            InputError: There is none, or it is damaged.
        """
        try:
            description = path.read_text(encoding="utf-8")
            pad = json.loads(description)["padding"]["pad_token"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}: no tokenizer can be read there ({type(error).__name__})",
                hint="the folder is incomplete or damaged; copy it again",
            ) from None
        return cls(description, pad)

    def write(self, path: Path) -> None:
        """Write the description, whole or not at all."""
        write_text(path, self._rust.to_str(pretty=True) + "\n")

    @property
    def size(self) -> int:
        """How many different tokens there are."""
        return int(self._rust.get_vocab_size())

    def token_id(self, token: str) -> int | None:
        """Return the number of a token, None where there is no such token."""
        found: int | None = self._rust.token_to_id(token)
        return found

    def encode(self, texts: Sequence[str], max_tokens: int) -> Encoded:
        """Return texts as numbers; one of more than ``max_tokens`` is cut at its end.

        Args:
            texts: At least one.
            max_tokens: Marks of begin and end counted.
        """
        self._rust.enable_truncation(max_tokens)
        rows = self._rust.encode_batch(list(texts))
        return Encoded(
            torch.tensor([row.ids for row in rows]),
            torch.tensor([row.attention_mask for row in rows], dtype=torch.bool),
            torch.tensor([row.offsets for row in rows]),
        )

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has, uncut, marks of begin and end counted."""
        self._rust.no_truncation()
        return [sum(row.attention_mask) for row in self._rust.encode_batch(list(texts))]
