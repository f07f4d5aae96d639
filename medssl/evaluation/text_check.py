"""What a text encoder is, and whether it hears a negation, before anything is trained with it."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import torch
from torch.nn import functional as F

from medssl.models.text.base import TextEncoder
from medssl.models.text.hf_folder import HFFolder
from medssl.models.text.minilm import MiniLM
from medssl.models.text.scratch import FOLDER, Scratch

FINDINGS: Final = (
    *("a pleural effusion", "a pneumothorax", "consolidation", "a lung nodule", "emphysema"),
    *("cardiomegaly", "a liver lesion", "hydronephrosis", "midline shift", "a skull fracture"),
)
SIDES: Final = ("left", "right")


class Negation(NamedTuple):
    """How alike the encoder finds a finding and its absence."""

    finding: str
    cosine: float
    """Of "There is X." and "There is no X."."""
    nearest: float
    """Of "There is X." and the same about the finding it is likest to."""


class Checked(NamedTuple):
    """What a text encoder is, and what it makes of a few sentences."""

    encoder: str
    """Its name as a component."""
    network: str
    """Class of the network."""
    parameters: int
    blocks: int
    width: int
    """Length of a text's vector."""
    max_tokens: int
    pieces: int
    """Different tokens."""
    tokens_per_word: float
    """In sentences about findings; near 1 where it knows their words."""
    negations: tuple[Negation, ...]
    side_cosine: float
    """Mean cosine of sentences that differ in left and right alone."""
    sentences_per_s: float
    """Read on this machine."""


def open_text_encoder(where: str) -> TextEncoder:
    """Return the encoder that a person means: ``minilm``, or what a folder holds.

    Raises:
        InputError: The folder does not hold a text encoder.
    """
    encoder: TextEncoder
    if where == "minilm":
        encoder = MiniLM.Config().build()
    elif (Path(where) / FOLDER).is_dir():
        encoder = Scratch.Config(path=Path(where)).build()
    else:
        encoder = HFFolder.Config(path=Path(where)).build()
    return encoder.eval()


def check_text_encoder(encoder: TextEncoder) -> Checked:
    """Return what the encoder is and does; it is used as at test time."""
    there = [f"There is {finding}." for finding in FINDINGS]
    absent = [f"There is no {finding.removeprefix('a ')}." for finding in FINDINGS]
    sides = [[f"There is {f} on the {side}." for f in FINDINGS] for side in SIDES]
    texts = [*there, *absent, *sides[0], *sides[1]]
    started_s = time.perf_counter()
    unit_ND = F.normalize(encoder.embed(texts).double(), dim=1)
    took_s = time.perf_counter() - started_s
    there_FD, absent_FD, left_FD, right_FD = torch.split(unit_ND, len(FINDINGS))
    other_FF = (there_FD @ there_FD.T).fill_diagonal_(-torch.inf)
    negations = zip(
        FINDINGS, (there_FD * absent_FD).sum(1).tolist(), other_FF.amax(1).tolist(), strict=True
    )
    return Checked(
        encoder=encoder.config.name,
        network=type(encoder.net).__name__,
        parameters=sum(weight.numel() for weight in encoder.parameters()),
        blocks=len(encoder.blocks),
        width=encoder.embed_dim,
        max_tokens=encoder.max_tokens,
        pieces=encoder.tokenizer.size,
        tokens_per_word=_tokens_per_word(encoder, there),
        negations=tuple(Negation(*row) for row in negations),
        side_cosine=float((left_FD * right_FD).sum(1).mean()),
        sentences_per_s=len(texts) / took_s,
    )


def _tokens_per_word(encoder: TextEncoder, texts: Sequence[str]) -> float:
    spans_NL2 = encoder.tokenizer.encode(texts, encoder.max_tokens).spans_NL2
    tokens = int((spans_NL2[..., 1] > spans_NL2[..., 0]).sum())
    return tokens / sum(len(text.replace(".", " .").split()) for text in texts)
