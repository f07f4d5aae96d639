"""Which volumes could be copies: all pairs of signatures, compared bit by bit.

Exact and quadratic, but with a constant so small that no index is needed: a pair costs one
exclusive-or and one population count per 64 bits. Signatures are compared in square tiles, each by
itself, so that threads share them out, memory stays within a few tiles, and what is found depends
on nothing but the signatures.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from medssl.runs.workers import available_cores

TILE = 2048
"""Rows and columns compared at a time; their signatures then stay in the processor's cache."""
_NUMPY_ROWS = 256
_AHEAD = 4
"""Tiles per thread that may wait to be collected."""

Words = NDArray[np.uint64]
Places = NDArray[np.intp]
ClosePairs = Callable[[Words, Words, int, bool], tuple[Places, Places, NDArray[np.int64]]]


class Pairs(NamedTuple):
    """Positions of the two of a pair, ``first < second``, and the bits they differ in."""

    first: Places
    second: Places
    bits: NDArray[np.int64]


def as_words(signatures: Sequence[bytes]) -> Words:
    """Return signatures of equal length as rows of 64-bit words."""
    size = len(signatures[0]) if len(signatures) else 8
    words: Words = np.frombuffer(b"".join(signatures), dtype="<u8").reshape(-1, size // 8)
    return words


def pairs_within(
    words_NW: Words,
    max_bits: int,
    is_new_N: NDArray[np.bool_] | None = None,
    threads: int | None = None,
) -> Pairs:
    """Return every pair that differs in at most ``max_bits`` bits, sorted by position.

    Args:
        words_NW: The signatures.
        max_bits: How many of their bits may differ.
        is_new_N: Where given, only pairs with at least one of these.
        threads: Tiles compared at once; as many as there are cores by default.
    """
    if is_new_N is None:
        everyone = np.arange(len(words_NW), dtype=np.intp)
        blocks = [_Block(words_NW, everyone, words_NW, everyone, True)]
    else:
        old, new = np.flatnonzero(~is_new_N), np.flatnonzero(is_new_N)
        blocks = [
            _Block(words_NW[new], new, words_NW[new], new, True),
            _Block(words_NW[new], new, words_NW[old], old, False),
        ]
    tiles = (tile for block in blocks for tile in block.tiles())
    found = [
        part
        for part in _in_order(lambda tile: tile.pairs(max_bits), tiles, threads)
        if len(part[0])
    ]
    if not found:
        nothing = np.zeros(0, np.intp)
        return Pairs(nothing, nothing, np.zeros(0, np.int64))
    one, other, bits = (np.concatenate(parts) for parts in zip(*found, strict=True))
    first, second = np.minimum(one, other), np.maximum(one, other)
    order = np.lexsort((second, first))
    return Pairs(first[order], second[order], bits[order])


def distances(words_NW: Words, first: Places, second: Places) -> NDArray[np.int64]:
    """Return in how many bits each of the pairs differs."""
    counts = np.bitwise_count(words_NW[first] ^ words_NW[second])
    return np.asarray(counts.sum(axis=1, dtype=np.int64))


@cache
def close_pairs() -> ClosePairs:
    """Return what compares a tile: compiled, or where numba is not installed in NumPy."""
    try:
        from medssl.curation import neighbours_compiled
    except ImportError:  # the same pairs, slower
        return numpy_close_pairs
    return neighbours_compiled.close_pairs


def numpy_close_pairs(
    rows_RW: Words, columns_CW: Words, max_bits: int, above: bool
) -> tuple[Places, Places, NDArray[np.int64]]:
    """Return row, column and bits of the pairs of a tile; ``above`` its diagonal only, if so."""
    found = []
    for start in range(0, len(rows_RW), _NUMPY_ROWS):
        part = rows_RW[start : start + _NUMPY_ROWS]
        bits_RC = np.zeros((len(part), len(columns_CW)), dtype=np.uint16)
        for w in range(rows_RW.shape[1]):
            bits_RC += np.bitwise_count(part[:, None, w] ^ columns_CW[None, :, w])
        row, column = np.nonzero(bits_RC <= max_bits)
        bits = bits_RC[row, column].astype(np.int64)
        row += start
        wanted = row < column if above else slice(None)
        found.append((row[wanted], column[wanted], bits[wanted]))
    rows, columns, bits = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return rows, columns, bits


class _Tile(NamedTuple):
    rows_RW: Words
    row_places: Places
    columns_CW: Words
    column_places: Places
    above: bool
    """Rows and columns are the same signatures: each pair stands above the diagonal once."""

    def pairs(self, max_bits: int) -> Pairs:
        row, column, bits = close_pairs()(self.rows_RW, self.columns_CW, max_bits, self.above)
        return Pairs(self.row_places[row], self.column_places[column], bits)


class _Block(NamedTuple):
    """All rows beside all columns."""

    rows_RW: Words
    row_places: Places
    columns_CW: Words
    column_places: Places
    above: bool

    def tiles(self) -> Iterator[_Tile]:
        for row in range(0, len(self.rows_RW), TILE):
            rows = slice(row, row + TILE)
            for column in range(row if self.above else 0, len(self.columns_CW), TILE):
                columns = slice(column, column + TILE)
                yield _Tile(
                    self.rows_RW[rows],
                    self.row_places[rows],
                    self.columns_CW[columns],
                    self.column_places[columns],
                    self.above and row == column,
                )


def _in_order(
    function: Callable[[_Tile], Pairs], tiles: Iterable[_Tile], threads: int | None
) -> Iterator[Pairs]:
    """Yield the results in the order of the tiles, a few of which are under way at once."""
    threads = threads or available_cores()
    if threads == 1:
        yield from map(function, tiles)
        return
    tiles = iter(tiles)
    with ThreadPoolExecutor(threads) as pool:
        under_way = [pool.submit(function, tile) for tile in islice(tiles, threads * _AHEAD)]
        while under_way:
            yield under_way.pop(0).result()
            under_way += [pool.submit(function, tile) for tile in islice(tiles, 1)]
