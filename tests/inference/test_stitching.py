"""Slabs of windows are MONAI's sliding window, bit by bit, and come as early as they can."""

import pytest
import torch
from monai.inferers import SlidingWindowInferer

from medssl.inference.stitching import Stitcher

CPU = torch.device("cpu")


def network():
    torch.manual_seed(0)
    return torch.nn.Conv3d(1, 3, 3, padding=1).requires_grad_(False)


def image(*shape):
    return torch.rand((1, *shape), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("mode", ["gaussian", "constant"])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, (0.5, 0.25, 0.0)])
@pytest.mark.parametrize("shape", [(21, 13, 9), (5, 13, 30), (8, 8, 8), (3, 4, 5)])
def test_the_rows_are_bit_by_bit_those_of_monai(mode, overlap, shape):
    inferer = SlidingWindowInferer((8, 8, 8), sw_batch_size=3, overlap=overlap, mode=mode)
    seen, conv = image(*shape), network()
    slabs = [(start, rows.clone()) for start, rows in Stitcher(inferer, CPU, CPU).slabs(seen, conv)]
    starts = [start for start, _ in slabs]
    ends = [start + rows.shape[1] for start, rows in slabs]
    assert starts == [0, *ends[:-1]]
    joined = torch.cat([rows for _, rows in slabs], dim=1)
    assert torch.equal(joined, inferer(seen[None], conv)[0])


def test_rows_are_handed_on_before_later_windows_are_seen():
    inferer = SlidingWindowInferer((8, 8, 8), sw_batch_size=1, overlap=0.5, mode="gaussian")
    conv, calls = network(), []

    def counting(x_BCIJK):
        calls.append(1)
        return conv(x_BCIJK)

    slabs = Stitcher(inferer, CPU, CPU).slabs(image(40, 8, 8), counting)
    counted = [(rows.shape[1], len(calls)) for _, rows in slabs]
    assert counted[:3] == [(4, 2), (4, 3), (4, 4)]  # steps of four rows, one window late
    assert counted[-1] == (8, 9)
