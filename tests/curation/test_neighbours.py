import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.curation import neighbours as n


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


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 40), st.integers(0, 256), st.sampled_from([8, 32]))
def test_pairs_equal_their_slow_twin(seed, count, max_bits, size):
    signatures = random_signatures(seed, count, size)
    found = n.pairs_within(n.as_words(signatures), max_bits)
    assert list(zip(*(a.tolist() for a in found), strict=True)) == slow_pairs(signatures, max_bits)


@pytest.mark.parametrize("block", [1, 2, 7, 16])
def test_blocks_do_not_matter(monkeypatch, block):
    signatures = random_signatures(5, 16)
    monkeypatch.setattr(n, "BLOCK", block)
    found = n.pairs_within(n.as_words(signatures), 90)
    assert list(zip(*(a.tolist() for a in found), strict=True)) == slow_pairs(signatures, 90)


def test_256_different_bits_are_counted():
    found = n.pairs_within(n.as_words([b"\x00" * 32, b"\xff" * 32]), 256)
    assert found.bits.tolist() == [256]


def test_a_candidate_needs_only_one_close_signature():
    far, near = b"\xff" * 32, b"\x01" + b"\x00" * 31
    zero = b"\x00" * 32
    full, bbox = [zero, near, far], [zero, far, near]
    assert n.candidates(full, bbox, max_bits=8) == [(0, 1, 1, 256), (0, 2, 256, 1)]


@pytest.mark.parametrize("signatures", [[], [b"\x00" * 32]])
def test_fewer_than_two_volumes_have_no_pairs(signatures):
    assert n.candidates(signatures, signatures, max_bits=256) == []
