"""Rows of all processes: as one process alone has them, with its gradients and its draws."""

import sys

import torch
from torch import distributed as dist

from medssl.losses.gather import from_first, gather_rows, own_rows
from medssl.runs.processes import decided_by_first
from medssl.training.launch import joined
from tests.training.processes import together


def loss_of(z_ND):
    """Every row is compared with every other."""
    return ((z_ND @ z_ND.mT).sin() * torch.arange(len(z_ND))).sum()


def layers():
    torch.manual_seed(0)
    return torch.nn.Linear(3, 2).double()


def test_alone_nothing_is_moved():
    x = torch.ones(2, 3)
    assert gather_rows(x) is x
    assert own_rows(x) is x
    assert from_first(x) is x
    assert decided_by_first(lambda: 5) == 5


def test_two_processes_have_the_loss_gradient_and_draws_of_one(tmp_path):
    together(2, __file__, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    net = layers()
    loss = loss_of(net(torch.cat([first["x"], second["x"]])))
    loss.backward()
    for found in (first, second):
        assert torch.equal(found["own"], found["x"])
        torch.testing.assert_close(found["loss"], loss.detach(), rtol=1e-12, atol=1e-12)
        assert found["decided"] == 0
    averaged = (first["slope"] + second["slope"]) / 2  # as several processes average gradients
    torch.testing.assert_close(averaged, net.weight.grad, rtol=1e-12, atol=1e-12)
    torch.manual_seed(5)
    assert torch.equal(first["drawn"], torch.rand(8, 2))
    assert torch.equal(second["drawn"], first["drawn"])


def _part(folder):
    rank = dist.get_rank()
    torch.manual_seed(rank + 1)
    x, net = torch.randn(4, 3, dtype=torch.float64), layers()
    loss = loss_of(gather_rows(net(x)))
    loss.backward()
    torch.manual_seed(5 + rank)
    drawn = from_first(torch.rand(8, 2))
    own = own_rows(gather_rows(x))
    found = {"x": x, "own": own, "loss": loss.detach(), "slope": net.weight.grad, "drawn": drawn}
    torch.save(found | {"decided": decided_by_first(lambda: rank)}, f"{folder}/{rank}.pt")


if __name__ == "__main__":
    with joined(gpu=False):
        _part(sys.argv[1])
