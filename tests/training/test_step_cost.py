"""Costs counted without computing are those of the computed step."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from medssl.training.step_cost import StepCost, without_computing


def step(network, x):
    network(x).square().mean().backward()


def cost_of(network, x):
    with without_computing([*network.parameters(), x]) as cost:
        step(network, x)
    network.zero_grad(set_to_none=True)
    return cost


def test_flops_are_those_of_the_computed_step():
    network = nn.Sequential(
        nn.Conv3d(1, 8, 3, padding=1), nn.InstanceNorm3d(8), nn.ReLU(inplace=True),
        nn.Conv3d(8, 4, 3, stride=2), nn.Flatten(), nn.Linear(4 * 11**3, 10),
    )  # fmt: skip
    x = torch.randn(2, 1, 24, 24, 24)
    with FlopCounterMode(display=False) as counted:
        step(network, x)
    assert cost_of(network, x).flops == counted.get_total_flops()


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(16, 48)

    def forward(self, x_BLC):
        q, k, v = self.qkv(x_BLC).view(*x_BLC.shape[:2], 3, 2, 8).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v)


def test_attention_counts_its_products():
    rows, tokens, heads, size = 2, 64, 2, 8
    linear = 2 * rows * tokens * 16 * 48
    product = 2 * rows * heads * tokens * tokens * size
    flops = cost_of(Attention(), torch.randn(rows, tokens, 16)).flops
    # Forward: one linear layer and two products; back: the layer's weights, and two products
    # for each, with the scores computed once more.
    assert flops == 2 * linear + 2 * product + 5 * product


def test_memory_is_what_is_held_at_once_and_what_waits_for_the_way_back():
    network = nn.Sequential(nn.Linear(1000, 1000, bias=False), nn.Sigmoid(), nn.Sigmoid())
    x = torch.randn(500, 1000)
    cost = cost_of(network, x)
    row, weight = 500 * 1000 * 4, 1000 * 1000 * 4
    assert cost.saved_bytes == 2 * row  # both sigmoids' outputs; the linear layer's input is given
    assert cost.peak_bytes >= weight + row  # the gradient of the weights, and of what made them
    assert cost.peak_bytes <= weight + 5 * row


def test_what_is_computed_again_does_not_wait():
    """A row is what one layer hands on; each of eight blocks keeps three of them."""
    blocks = [nn.Sequential(nn.Linear(512, 512), *[nn.Sigmoid()] * 3) for _ in range(8)]
    x, row = torch.randn(2048, 512), 2048 * 512 * 4
    peaks = []
    for again in (False, True):
        with without_computing([*nn.ModuleList(blocks).parameters(), x]) as cost:
            y = x
            for block in blocks:
                y = checkpoint(block, y, use_reentrant=False) if again else block(y)
            y.mean().backward()
        peaks.append(cost.peak_bytes / row)
        nn.ModuleList(blocks).zero_grad()
    assert 24 <= peaks[0] <= 28
    assert 9 <= peaks[1] <= 16


def test_a_mask_over_something_large_has_its_real_count():
    with without_computing([]) as cost:
        rows = torch.ones(1000, 1000).mul(2)[torch.arange(1000) % 4 == 0]
    assert rows.shape == (250, 1000)
    assert cost.moved_bytes > 0


def test_what_was_never_computed_compares_as_false():
    """A truncated normal draws until nothing is out of range, whatever its memory holds."""
    weight = torch.full((2**10, 2**10), 1e6)
    with without_computing([weight]):
        assert not (weight > 1).any()
        nn.init.trunc_normal_(weight)
        nn.init.trunc_normal_(weight, mean=1.0, a=-9.0, b=0.0)


def test_tables_of_indices_are_real_however_large():
    with without_computing([]):
        index = torch.arange(2**17)[None].flip(1) % 1000
        assert int(index.max()) == 999
        table = torch.empty(1000, 64)
        assert table.index_select(0, index[0]).shape == (2**17, 64)


def test_what_is_written_in_place_is_handed_back():
    with without_computing([]):
        x = torch.empty(2**17)
        assert x.add_(1) is x
        torch._foreach_add_([x, torch.empty(2)], 1.0)


def test_each_operation_is_bound_by_the_slower_of_two_rates_and_by_its_launch():
    cost = StepCost(operations=[(100, 1), (0, 30), (0, 0)])
    assert cost.seconds(10.0, 3.0) == 10 + 10
    assert cost.seconds(10.0, 3.0, 2.0) == 10 + 10 + 2


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


RESERVED = """
import torch
from torch import nn
from medssl.training.step_cost import without_computing

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

before = resident()
with without_computing([]):
    network = nn.Linear(2**15, 2**15)  # 4 GiB
    nn.init.trunc_normal_(network.weight)
assert resident() < before + 2**28, resident() - before
assert network.weight.shape == (2**15, 2**15)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what is in memory")
def test_a_network_built_inside_reserves_its_weights_only():
    """In a process of its own: memory that other tests gave back is resident already."""
    subprocess.run([sys.executable, "-c", RESERVED], check=True, timeout=120)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what is in memory")
def test_memory_is_reserved_and_not_touched_even_where_training_is_deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        before = resident()
        with without_computing([]):
            held = torch.nn.Linear(16_384, 16_384)  # a GiB
            assert resident() < before + 100 * 2**20
        assert torch.utils.deterministic.fill_uninitialized_memory
        assert held.weight.shape == (16_384, 16_384)
    finally:
        torch.use_deterministic_algorithms(False)
