"""The slow copy, by its formula."""

import torch

from medssl.models.ema import ema_update


def test_every_parameter_moves_by_its_share_and_buffers_are_copied():
    slow, fast = (torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)) for _ in "ab")
    fast[1].running_mean.fill_(7)
    before = [p.detach().clone() for p in slow.parameters()]
    ema_update(slow, fast, 0.9)
    for now, old, new in zip(slow.parameters(), before, fast.parameters(), strict=True):
        torch.testing.assert_close(now, 0.9 * old + 0.1 * new)
    assert torch.equal(slow[1].running_mean, fast[1].running_mean)
