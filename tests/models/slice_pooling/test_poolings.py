"""What every pooling promises, and each by its definition."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from medssl.config.choice import available, find
from medssl.errors import ConfigError
from medssl.models.slice_pooling.gated_attention import GatedAttention
from medssl.models.slice_pooling.latent_query import LatentQuery
from medssl.models.slice_pooling.max import Max
from medssl.models.slice_pooling.mean import Mean
from medssl.models.slice_pooling.position_attention import PositionAttention, sinusoids

PACKAGE = "medssl.models.slice_pooling"
NAMES = available(PACKAGE)
WIDTH = 8


def pooling(name):
    torch.manual_seed(0)
    made = find(PACKAGE, name).Config().build(width=WIDTH)
    for weight in made.parameters():  # none may be 0 by chance of how it begins
        nn.init.normal_(weight, std=0.5)
    return made.double().eval().requires_grad_(False)


def bags(members, seed=0, bags=3):
    draw = torch.Generator().manual_seed(seed)
    e = torch.randn(bags, members, WIDTH, dtype=torch.float64, generator=draw)
    mask = torch.rand(bags, members, generator=draw) < 0.6
    mask[:, 0] = True
    return e, mask, torch.rand(bags, members, dtype=torch.float64, generator=draw) * 300


def test_all_of_them_are_tried():
    assert NAMES == ["gated_attention", "latent_query", "max", "mean", "position_attention"]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20)
@given(members=st.integers(1, 7), more=st.integers(1, 3), seed=st.integers(0, 10**6))
def test_padding_counts_for_nothing(name, members, more, seed):
    made = pooling(name)
    e, mask, position = bags(members, seed)
    longer = torch.cat((e, torch.full((3, more, WIDTH), torch.nan, dtype=e.dtype)), 1)
    e[~mask] = 1e6
    no = torch.zeros(3, more, dtype=torch.bool)
    far = torch.cat((position, torch.full((3, more), 1e4, dtype=e.dtype)), 1)
    for place, farther in ((None, None), (position, far)):
        expected = made(e, mask, place)
        torch.testing.assert_close(made(longer, torch.cat((mask, no), 1), farther), expected)
        alone = torch.stack(
            [
                made(e[b][mask[b]][None], mask[b][mask[b]][None], at)[0]
                for b in range(3)
                for at in [None if place is None else place[b][mask[b]][None]]
            ]
        )
        torch.testing.assert_close(alone, expected)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20)
@given(members=st.integers(2, 7), seed=st.integers(0, 10**6))
def test_without_positions_the_order_counts_for_nothing(name, members, seed):
    made = pooling(name)
    e, mask, position = bags(members, seed)
    other = torch.randperm(members, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(made(e[:, other], mask[:, other]), made(e, mask))
    moved = made(e[:, other], mask[:, other], position[:, other])
    torch.testing.assert_close(moved, made(e, mask, position))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_members_and_no_padding(name):
    made = pooling(name)
    e, mask, position = bags(5)
    e.requires_grad_()
    made(e, mask, position).square().sum().backward()
    assert e.grad[~mask].abs().max() == 0
    assert e.grad.isfinite().all()
    assert (e.grad.abs().sum((1, 2)) > 0).all()


@pytest.mark.parametrize("cls", [Mean, Max, GatedAttention])
def test_a_bag_of_one_is_its_member(cls):
    e = torch.randn(2, 1, WIDTH)
    made = cls.Config().build(width=WIDTH)
    torch.testing.assert_close(made(e, torch.ones(2, 1, dtype=torch.bool)), e[:, 0])


@pytest.mark.parametrize("cls", [Mean, Max])
def test_mean_and_maximum_by_definition(cls):
    e, mask, _ = bags(6)
    found = cls.Config().build(width=WIDTH)(e, mask)
    for b in range(3):
        for d in range(WIDTH):
            members = [float(e[b, s, d]) for s in range(6) if mask[b, s]]
            expected = sum(members) / len(members) if cls is Mean else max(members)
            assert float(found[b, d]) == pytest.approx(expected, rel=1e-12)


def test_equal_scores_of_gated_attention_are_the_mean():
    made = pooling("gated_attention")
    nn.init.zeros_(made.weights.score.weight)
    e, mask, _ = bags(5)
    torch.testing.assert_close(made(e, mask), Mean.Config().build(width=WIDTH)(e, mask))


def test_gated_attention_by_definition():
    made = pooling("gated_attention")
    layers = made.weights
    e, mask, _ = bags(4)
    found = made(e, mask)
    for b in range(3):
        members = [s for s in range(4) if mask[b, s]]
        scores = []
        for s in members:
            content = [math.tanh(v) for v in layers.content(e[b, s]).tolist()]
            gate = [1 / (1 + math.exp(-u)) for u in layers.gate(e[b, s]).tolist()]
            weights = layers.score.weight[0].tolist()
            scores.append(
                sum(w * t * g for w, t, g in zip(weights, content, gate, strict=True))
                + float(layers.score.bias)
            )
        total = sum(math.exp(x) for x in scores)
        expected = sum(math.exp(x) / total * e[b, s] for x, s in zip(scores, members, strict=True))
        torch.testing.assert_close(found[b], expected)


def heads_by_hand(layer, query, keys):
    """Attention of one query over keys, head by head (Vaswani et al. 2017, eq. 1)."""
    width = query.shape[0]
    size = width // layer.num_heads
    weights, biases = layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3)
    q = weights[0] @ query + biases[0]
    k = [weights[1] @ key + biases[1] for key in keys]
    v = [weights[2] @ key + biases[2] for key in keys]
    out = []
    for head in range(layer.num_heads):
        part = slice(head * size, (head + 1) * size)
        scores = [math.exp(float(q[part] @ key[part]) / math.sqrt(size)) for key in k]
        out.append(sum(x / sum(scores) * value[part] for x, value in zip(scores, v, strict=True)))
    return layer.out_proj(torch.cat(out))


def test_latent_queries_by_definition():
    made = pooling("latent_query")
    e, mask, _ = bags(4)
    found = made(e, mask)
    for b in range(3):
        keys = [made.norm(e[b, s]) for s in range(4) if mask[b, s]]
        answers = [heads_by_hand(made.attention, q, keys) for q in made.query_1QD[0]]
        torch.testing.assert_close(found[b], sum(answers) / len(answers))


def test_position_attention_by_definition():
    made = pooling("position_attention")
    e, mask, position = bags(4)
    found = made(e, mask, position)
    for b in range(3):
        members = [s for s in range(4) if mask[b, s]]
        waves = [wave(float(position[b, s]), WIDTH, 4.0, 4000.0) for s in members]
        x = [made.norm(e[b, s]) + w for s, w in zip(members, waves, strict=True)]
        y = [e[b, s] + heads_by_hand(made.attention, q, x) for s, q in zip(members, x, strict=True)]
        torch.testing.assert_close(found[b], sum(y) / len(y))


def wave(position, width, shortest, longest):
    count = (width + 1) // 2
    lengths = [shortest * (longest / shortest) ** (n / (count - 1)) for n in range(count)]
    angles = [2 * math.pi * position / length for length in lengths]
    values = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    return torch.tensor(values[:width], dtype=torch.float64)


@pytest.mark.parametrize("width", [5, 8])
def test_sinusoids_by_definition(width):
    position = torch.tensor([[0.0, 2.5, 731.0]], dtype=torch.float64)
    found = sinusoids(position, width, 4.0, 4000.0)
    for s, at in enumerate(position[0].tolist()):
        torch.testing.assert_close(found[0, s], wave(at, width, 4.0, 4000.0))


def test_positions_count_in_millimetres():
    made = pooling("position_attention")
    e, mask, position = bags(5)
    here = made(e, mask, position)
    assert not torch.allclose(here, made(e, mask))
    assert not torch.allclose(here, made(e, mask, 2 * position))


@pytest.mark.parametrize("cls", [LatentQuery, PositionAttention])
def test_heads_that_do_not_fit_are_explained(cls):
    with pytest.raises(ConfigError, match=r"4 attention heads cannot share 6.*\n.*heads to 3"):
        cls.Config().build(width=6)


def test_waves_must_grow():
    with pytest.raises(ValueError, match="shortest_mm must be below longest_mm"):
        PositionAttention.Config(shortest_mm=5, longest_mm=5)
