"""A low-rank change beside a linear layer, by its definition."""

import pytest
import torch
from torch import nn

from medssl.models.lora import LowRankLinear, add_low_rank, merge_low_rank


def changed(*, rank=2, scale=1.5, dropout=0.0, bias=True):
    torch.manual_seed(0)
    layer = nn.Linear(5, 4, bias=bias).double()
    generator = torch.Generator().manual_seed(1)
    add_low_rank(layer, rank=rank, scale=scale, dropout=dropout, generator=generator)
    return layer


def test_at_first_it_computes_what_it_did():
    torch.manual_seed(0)
    plain, x = nn.Linear(5, 4).double(), torch.randn(3, 5, dtype=torch.float64)
    assert torch.equal(changed()(x), plain(x))


@pytest.mark.parametrize("bias", [True, False])
def test_the_change_by_definition(bias):
    layer = changed(bias=bias)
    nn.init.normal_(layer.low_rank_B)
    x = torch.randn(5, dtype=torch.float64)
    y = layer(x).tolist()
    A, B = layer.low_rank_A.tolist(), layer.low_rank_B.tolist()
    for o in range(4):
        expected = float(layer.bias[o]) if bias else 0.0
        for i in range(5):
            change = sum(B[o][r] * A[r][i] for r in range(2))
            expected += (float(layer.weight[o, i]) + 1.5 * change) * float(x[i])
        assert y[o] == pytest.approx(expected, rel=1e-12)


def test_only_the_change_trains():
    layer = changed()
    assert [n for n, p in layer.named_parameters() if p.requires_grad] == [
        "low_rank_A",
        "low_rank_B",
    ]


def test_merged_it_is_a_plain_layer_with_the_same_answer():
    layer, x = changed(), torch.randn(3, 5, dtype=torch.float64)
    nn.init.normal_(layer.low_rank_B)
    weight, before = layer.weight, layer(x)
    merge_low_rank(layer)
    torch.testing.assert_close(layer(x), before, rtol=1e-12, atol=1e-12)
    assert type(layer) is nn.Linear
    assert layer.weight is weight
    assert vars(layer).keys() == vars(nn.Linear(5, 4)).keys()
    assert list(layer.state_dict()) == ["weight", "bias"]
    again = layer.weight.clone()
    merge_low_rank(layer)
    assert torch.equal(layer.weight, again)


def test_the_first_values_follow_the_generator_alone():
    first = changed().low_rank_A
    torch.randn(3)
    assert torch.equal(first, changed().low_rank_A)
    assert first.abs().max() <= 5**-0.5  # as those of a linear layer of 5 inputs


def test_dropout_thins_the_change_and_nothing_else():
    layer = changed(dropout=0.5)
    x = torch.ones(2000, 5, dtype=torch.float64)
    plain = nn.functional.linear(x, layer.weight, layer.bias)
    assert torch.equal(layer(x), plain)
    nn.init.ones_(layer.low_rank_B)
    in_training, at_test = layer.train()(x) - plain, layer.eval()(x) - plain
    assert in_training.std(0).min() > 0
    torch.testing.assert_close(in_training.mean(0), at_test[0], rtol=0.2, atol=0.1)
    assert torch.equal(at_test[0], at_test[1])


def test_a_layer_of_another_precision_gets_a_change_of_its_own():
    layer = nn.Linear(5, 4).to(torch.bfloat16)
    add_low_rank(layer, rank=1, scale=1.0, dropout=0.0, generator=torch.Generator())
    assert isinstance(layer, LowRankLinear)
    assert layer.low_rank_A.dtype == layer.low_rank_B.dtype == torch.bfloat16
