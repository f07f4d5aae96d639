import numpy as np
import pytest
import torch

from medssl.evaluation.frozen.spectrum import participation_ratio


def test_it_is_as_defined():
    z = np.random.default_rng(0).normal(size=(30, 6)) * np.arange(1, 7)
    values = np.linalg.eigvalsh(np.cov(z.T))
    expected = sum(values) ** 2 / sum(value**2 for value in values)
    assert participation_ratio(torch.tensor(z)) == pytest.approx(expected)


def test_it_counts_directions_of_equal_strength():
    corners = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])
    assert participation_ratio(corners + 7) == pytest.approx(2)
    assert participation_ratio(corners[:2]) == pytest.approx(1)
    assert participation_ratio(torch.ones(5, 3)) == 0
    same = torch.full((6, 3), 0.1, dtype=torch.float64)  # whose mean is not 0.1
    assert participation_ratio(same) == 0
