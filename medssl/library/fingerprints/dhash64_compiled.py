"""``dhash64.resize_rows`` in machine code: the same bytes, several times quicker.

A weight is cut into a high part of 16 bits, whose products processors sum in pairs, and a small
rest. Where the most that the rest could add or take would not change the rounded pixel, which is
nearly everywhere, it is never looked at; elsewhere the sum is made again with whole weights.
"""

from functools import cache
from typing import Any

import numpy as np
from numba import int32, njit

from medssl.library.fingerprints.dhash64 import SHIFT, Bytes, filter_weights

_ROWS = 4
"""Rows that share a weight once it is loaded."""
_ALIGNED = 32
"""Taps are padded to whole vectors."""


def resize_rows(images_NRC: Bytes, size: int) -> Bytes:
    """Return (N, size, rows) rows resized to ``size``, turned on their side."""
    count, rows, length = images_NRC.shape
    if length == size:
        return images_NRC.swapaxes(1, 2)
    padded = -(-rows // _ROWS) * _ROWS
    if padded == rows:
        ready = np.ascontiguousarray(images_NRC)
    else:
        ready = np.zeros((count, padded, length), np.uint8)
        ready[:, :rows] = images_NRC
    found = np.empty((count, size, padded), np.uint8)
    _resize(ready, _taps(length, size), found)
    return found[:, :, :rows]


@cache
def _taps(length: int, size: int) -> tuple[Any, ...]:
    """Return what ``_resize`` needs of the filter, per output pixel.

    First tap and number of taps; whole weights and their high parts; how many bits the high parts
    lack (one number for all); the least and the most that the rest of 255s can come to.
    """
    dense = filter_weights(length, size).astype(np.int64)
    support = [np.flatnonzero(row) for row in dense]
    taps = [min(-(-int(s[-1] - s[0] + 1) // _ALIGNED) * _ALIGNED, length) for s in support]
    first = [min(int(s[0]), length - n) for s, n in zip(support, taps, strict=True)]
    whole = np.zeros((size, max(taps)), np.int32)
    for row, start, n, packed in zip(dense, first, taps, whole, strict=True):
        packed[:n] = row[start : start + n]
    shift = max(int(np.abs(whole).max()).bit_length() - 15, 0)
    high = (whole + (1 << shift >> 1)) >> shift
    rest = whole - (high << shift)
    least, most = (255 * f(rest, 0).sum(axis=1) for f in (np.minimum, np.maximum))
    return (
        *(np.array(x, np.int64) for x in (first, taps)),
        *(whole, high.astype(np.int16), np.int64(shift), least, most),
    )


@njit(cache=True, nogil=True)
def _exact(row, weights):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    total = int32(0)
    for x in range(len(weights)):
        total = int32(total + int32(int32(row[x]) * weights[x]))
    return total


@njit(cache=True, nogil=True, boundscheck=False)
def _resize(images, filter_taps, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    first, taps, whole, high, shift, least, most = filter_taps
    half = 1 << (SHIFT - 1)
    for image in range(images.shape[0]):
        for row in range(0, images.shape[1], _ROWS):
            for pixel in range(whole.shape[0]):
                begin, end = first[pixel], first[pixel] + taps[pixel]
                row_0, row_1 = images[image, row, begin:end], images[image, row + 1, begin:end]
                row_2, row_3 = images[image, row + 2, begin:end], images[image, row + 3, begin:end]
                weights = high[pixel, : taps[pixel]]
                sum_0 = sum_1 = sum_2 = sum_3 = int32(0)
                for x in range(len(weights)):
                    weight = int32(weights[x])
                    sum_0 = int32(sum_0 + int32(int32(row_0[x]) * weight))
                    sum_1 = int32(sum_1 + int32(int32(row_1[x]) * weight))
                    sum_2 = int32(sum_2 + int32(int32(row_2[x]) * weight))
                    sum_3 = int32(sum_3 + int32(int32(row_3[x]) * weight))
                for n, part in enumerate((sum_0, sum_1, sum_2, sum_3)):
                    total = (np.int64(part) << shift) + half
                    value = (total + least[pixel]) >> SHIFT
                    if value != (total + most[pixel]) >> SHIFT:
                        there = images[image, row + n, begin:end]
                        value = (_exact(there, whole[pixel, : taps[pixel]]) + half) >> SHIFT
                    out[image, pixel, row + n] = min(max(value, 0), 255)
