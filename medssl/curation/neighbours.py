"""Which volumes could be copies: all pairs of signatures, compared bit by bit.

Exact and quadratic, but with a constant so small that no index is needed: a pair costs one
exclusive-or and one population count per 64 bits, and memory stays within one block.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BLOCK = 512
"""Rows and columns compared at a time; the block's counts then stay in the processor's cache."""

Words = NDArray[np.uint64]


class Pairs(NamedTuple):
    """Positions of the two of a pair, ``first < second``, and the bits they differ in."""

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    bits: NDArray[np.int64]


def as_words(signatures: Sequence[bytes]) -> Words:
    """Return signatures of equal length as rows of 64-bit words."""
    size = len(signatures[0]) if signatures else 8
    words: Words = np.frombuffer(b"".join(signatures), dtype="<u8").reshape(-1, size // 8)
    return words


def pairs_within(words_NW: Words, max_bits: int) -> Pairs:
    """Return every pair that differs in at most ``max_bits`` bits, sorted by position."""
    starts = range(0, max(len(words_NW), 1), BLOCK)
    found = [_block(words_NW, a, b, max_bits) for a in starts for b in starts if a <= b]
    first, second, bits = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((second, first))
    return Pairs(first[order], second[order], bits[order])


def distances(words_NW: Words, first: NDArray[np.intp], second: NDArray[np.intp]) -> list[int]:
    """Return in how many bits each of the pairs differs."""
    counts = np.bitwise_count(words_NW[first] ^ words_NW[second])
    bits: list[int] = counts.sum(axis=1, dtype=np.int64).tolist()
    return bits


def candidates(
    dct_full: Sequence[bytes], dct_bbox: Sequence[bytes], max_bits: int
) -> list[tuple[int, int, int, int]]:
    """Return (first, second, bits of the full grid, bits of the body box) of possible copies.

    A pair is a candidate when either signature says so: a wider margin changes the one, a
    different cut of the body the other.
    """
    full_NW, bbox_NW = as_words(dct_full), as_words(dct_bbox)
    close = {
        (int(i), int(j))
        for words_NW in (full_NW, bbox_NW)
        for i, j in zip(*pairs_within(words_NW, max_bits)[:2], strict=True)
    }
    ordered = sorted(close)
    first, second = (np.array([p[k] for p in ordered], dtype=np.intp) for k in (0, 1))
    bits = zip(distances(full_NW, first, second), distances(bbox_NW, first, second), strict=True)
    return [(i, j, full, bbox) for (i, j), (full, bbox) in zip(ordered, bits, strict=True)]


def _block(words_NW: Words, start: int, other: int, max_bits: int) -> Pairs:
    rows, columns = words_NW[start : start + BLOCK], words_NW[other : other + BLOCK]
    bits_RC = np.zeros((len(rows), len(columns)), dtype=np.uint16)
    for w in range(words_NW.shape[1]):
        bits_RC += np.bitwise_count(rows[:, None, w] ^ columns[None, :, w])
    first, second = np.nonzero(bits_RC <= max_bits)
    bits = bits_RC[first, second].astype(np.int64)
    first, second = first + start, second + other
    ahead = first < second
    return Pairs(first[ahead], second[ahead], bits[ahead])
