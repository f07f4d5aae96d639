"""Batch normalisation of several processes: that of one with all their rows, gradient and all."""

import sys

import pytest
import torch
from torch import nn

from medssl.models.heads import BatchNormMLP
from medssl.models.norms import SharedBatchNorm, share_batch_norms
from medssl.runs.processes import sum_over_processes, world_size
from medssl.training.launch import joined
from tests.training.processes import together

KINDS = {"2": (nn.BatchNorm1d, (8, 3)), "5": (nn.BatchNorm3d, (8, 3, 2, 4, 3))}


def net(kind):
    torch.manual_seed(0)
    layer = kind(3, momentum=0.3).double()
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    return nn.Sequential(layer)


def passed(layers, x, weight):
    """Two batches, the gradients of the second one's loss, and what was remembered."""
    layers(x + 1)
    y = layers(x)
    (y.sin() * weight).sum().backward()
    return [y.detach(), x.grad, *(p.grad for p in layers.parameters()), *layers.buffers()]


@pytest.mark.parametrize("axes", KINDS)
def test_alone_it_is_torchs(axes):
    kind, shape = KINDS[axes]
    weight = torch.randn(shape, dtype=torch.float64)
    start = torch.randn(shape, dtype=torch.float64)
    shared = net(kind)
    share_batch_norms(shared)
    assert type(shared[0]) is SharedBatchNorm
    one, other = (passed(n, start.clone().requires_grad_(), weight) for n in (net(kind), shared))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_projector_keeps_its_names():
    assert list(BatchNormMLP(3, 4, 5).state_dict()) == [
        f"{layer}.{kind}" for layer in (0, 3, 6) for kind in ("weight", "bias")
    ]


def test_of_two_processes_it_is_that_of_one_with_all_rows(tmp_path):
    together(2, __file__, tmp_path)
    for axes, (kind, shape) in KINDS.items():
        parts = [torch.load(tmp_path / f"{axes}-{rank}.pt") for rank in (0, 1)]
        x = torch.cat([part["x"] for part in parts]).requires_grad_()
        weight = torch.cat([part["weight"] for part in parts])
        whole = passed(net(kind), x, weight)
        for number, expected in enumerate(whole):
            first, second = (part["found"][number] for part in parts)
            if expected.shape == (16, *shape[1:]):
                found = torch.cat([first, second])
            elif number in (2, 3):  # gradients of its weights add up over processes
                found = first + second
            else:
                assert torch.equal(first, second)
                found = first
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_sums_and_their_gradients_alone():
    x = torch.ones(3, requires_grad=True)
    assert sum_over_processes(x) is x
    assert world_size() == 1


def _part(folder):
    import torch.distributed as dist

    for axes, (kind, shape) in KINDS.items():
        torch.manual_seed(dist.get_rank())
        x, weight = (torch.randn(shape, dtype=torch.float64) for _ in "xw")
        layers = net(kind)
        share_batch_norms(layers)
        found = passed(layers, x.clone().requires_grad_(), weight)
        torch.save(
            {"x": x, "weight": weight, "found": found}, f"{folder}/{axes}-{dist.get_rank()}.pt"
        )


if __name__ == "__main__":
    with joined(gpu=False):
        _part(sys.argv[1])
