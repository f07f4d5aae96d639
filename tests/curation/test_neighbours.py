import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medssl.curation import neighbours as n
from medssl.curation import neighbours_compiled


def slow_pairs(signatures, max_bits):
    found = []
    for i, a in enumerate(signatures):
        for j, b in enumerate(signatures[i + 1 :], i + 1):
            bits = sum((x ^ y).bit_count() for x, y in zip(a, b, strict=True))
            if bits <= max_bits:
                found.append((i, j, bits))
    return found


def random_signatures(seed, count, size=32):
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 256, (3, size))
    flips = rng.random((count, size)) < rng.random((count, 1))
    rows = np.where(flips, rng.integers(0, 256, (count, size)), base[rng.integers(0, 3, count)])
    return [row.astype(np.uint8).tobytes() for row in rows]


@pytest.fixture(params=["compiled", "numpy"])
def both(request, monkeypatch):
    """Everything holds with numba and without it."""
    close = {"compiled": neighbours_compiled.close_pairs, "numpy": n.numpy_close_pairs}
    monkeypatch.setattr(n, "close_pairs", lambda: close[request.param])


def listed(found):
    return list(zip(*(a.tolist() for a in found), strict=True))


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, 10_000), st.integers(0, 40), st.integers(0, 256), st.sampled_from([8, 32]))
def test_pairs_equal_their_slow_twin(both, seed, count, max_bits, size):
    signatures = random_signatures(seed, count, size)
    found = n.pairs_within(n.as_words(signatures), max_bits)
    assert listed(found) == slow_pairs(signatures, max_bits)


@pytest.mark.parametrize("tile", [1, 2, 7, 16])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_neither_tiles_nor_threads_matter(both, monkeypatch, tile, threads):
    signatures = random_signatures(5, 16)
    monkeypatch.setattr(n, "TILE", tile)
    found = n.pairs_within(n.as_words(signatures), 90, threads=threads)
    assert listed(found) == slow_pairs(signatures, 90)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, 10_000), st.lists(st.booleans(), max_size=30))
def test_newcomers_against_all_are_the_pairs_that_have_a_newcomer(both, seed, is_new):
    signatures = random_signatures(seed, len(is_new))
    found = n.pairs_within(n.as_words(signatures), 100, np.array(is_new, dtype=bool))
    assert listed(found) == [
        (i, j, bits) for i, j, bits in slow_pairs(signatures, 100) if is_new[i] or is_new[j]
    ]


def test_more_pairs_than_there_was_room_for(monkeypatch, both):
    monkeypatch.setattr(neighbours_compiled, "_ROOM", 3)
    signatures = [b"\x00" * 32] * 9
    assert listed(n.pairs_within(n.as_words(signatures), 0)) == slow_pairs(signatures, 0)


def test_256_different_bits_are_counted(both):
    found = n.pairs_within(n.as_words([b"\x00" * 32, b"\xff" * 32]), 256)
    assert found.bits.tolist() == [256]


def test_without_numba_numpy_does_it(monkeypatch):
    n.close_pairs.cache_clear()
    monkeypatch.setitem(sys.modules, "medssl.curation.neighbours_compiled", None)
    monkeypatch.delattr("medssl.curation.neighbours_compiled", raising=False)
    try:
        assert n.close_pairs() is n.numpy_close_pairs
    finally:
        n.close_pairs.cache_clear()


@pytest.mark.parametrize("signatures", [[], [b"\x00" * 32]])
def test_fewer_than_two_volumes_have_no_pairs(both, signatures):
    assert listed(n.pairs_within(n.as_words(signatures), 256)) == []
