import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.evaluation.frozen.neighbours import cosines, knn_shares, shared


def drawn(rows, seed=0, width=4):
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def slow_shares(z_M, z_L, y_L, hidden, k, temperature):
    """The definition, neighbour by neighbour."""
    shares = []
    for m, z in enumerate(z_M.double()):
        near = sorted(
            (float(torch.cosine_similarity(z, other.double(), dim=0)), n)
            for n, other in enumerate(z_L)
            if not hidden[m][n]
        )[::-1][:k]
        row = []
        for c in range(y_L.shape[1]):
            votes = [
                (math.exp(cosine / temperature), float(y_L[n, c]))
                for cosine, n in near
                if not math.isnan(float(y_L[n, c]))
            ]
            total = sum(loud for loud, _ in votes)
            row.append(sum(loud * yes for loud, yes in votes) / total if total else math.nan)
        shares.append(row)
    return np.array(shares)


@pytest.mark.parametrize("k", [1, 3, 50])
def test_neighbours_vote_as_defined(k):
    z_M, z_L = drawn(5), drawn(9, seed=1)
    y_L = (drawn(9, seed=2, width=3) > 0).double()
    y_L[4, 1] = torch.nan
    hidden = drawn(5, seed=3, width=9) > 0.8
    found = knn_shares(cosines(z_M, z_L), y_L, hidden, k=k, temperature=0.1)
    np.testing.assert_allclose(found, slow_shares(z_M, z_L, y_L, hidden, k, 0.1), rtol=1e-9)


def test_a_small_temperature_asks_the_nearest_alone():
    cosine = torch.tensor([[0.9, 0.8, 0.7]], dtype=torch.float64)
    y = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    none = torch.zeros(1, 3, dtype=torch.bool)
    assert knn_shares(cosine, y, none, k=3, temperature=1e-4).tolist() == [[1.0, 0.0]]


def test_another_scan_of_the_patient_would_change_the_answer_and_is_not_asked():
    z = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.8, 0.6]])
    y = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)  # of rows 1 and 2
    cosine = cosines(z[:1], z[1:])
    leaking = knn_shares(cosine, y, torch.zeros(1, 2, dtype=torch.bool), k=1)
    honest = knn_shares(cosine, y, shared(["p0"], ["p0", "p1"]), k=1)
    assert leaking.argmax() == 1
    assert honest.argmax() == 0


def test_nobody_to_ask_is_not_known():
    ones, all_hidden = torch.ones(2, 1).double(), torch.ones(1, 2, dtype=torch.bool)
    found = knn_shares(ones.T, ones, all_hidden, k=2)
    assert np.isnan(found).all()


def test_rows_of_no_group_share_none():
    assert shared(["", "a"], ["", "a", "b"]).tolist() == [[False] * 3, [False, True, False]]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 50))
def test_the_length_of_an_embedding_tells_nothing(seed, scale):
    z_M, z_L = drawn(3, seed), drawn(6, seed + 1)
    scaled = z_L * torch.linspace(1, scale, 6)[:, None]
    torch.testing.assert_close(cosines(z_M, z_L), cosines(z_M, scaled), rtol=1e-5, atol=1e-6)
