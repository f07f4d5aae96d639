"""Joining samples into a batch."""

import numpy as np
import torch

from medssl.data.grid_views import GridViews
from medssl.data.views import Sample


def test_batches_are_sample_major():
    samples = [
        Sample([np.full((n, 1, 2, 2, 2), v, np.float32) for n in (2, 3)], {"where": np.array([v])})
        for v in (10, 20)
    ]
    batch = GridViews().collate(samples)
    few, many = (view[:, 0, 0, 0, 0].tolist() for view in batch.views_BCIJK)
    assert few == [10, 10, 20, 20]
    assert many == [10, 10, 10, 20, 20, 20]
    assert batch.geometry["where"].tolist() == [[10], [20]]
    assert all(view.dtype == torch.float32 for view in batch.views_BCIJK)
