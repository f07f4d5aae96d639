"""Optimisers by their formulas, and which weight belongs to which group."""

import pytest
import torch
from torch import nn

from medssl.config.load import validate
from medssl.errors import ConfigError
from medssl.models.encoders.segresnet import SegResNetEncoder
from medssl.models.encoders.unet import UNetEncoder
from medssl.training.lars import LARS
from medssl.training.optimizer import OptimizerConfig, stage_depths
from tests.text_folders import tiny_text


def slow_lars(w, gradients, *, lr, momentum, trust, decay):
    """One layer in plain Python: equation 6 and algorithm 1 of the paper."""
    w, v = list(w), [0.0] * len(w)
    for g in gradients:
        length = sum(x * x for x in w) ** 0.5
        slope = sum(x * x for x in g) ** 0.5
        local = trust * length / (slope + decay * length)
        v = [
            momentum * vi + lr * local * (gi + decay * wi)
            for vi, gi, wi in zip(v, g, w, strict=True)
        ]
        w = [wi - vi for wi, vi in zip(w, v, strict=True)]
    return w


def test_lars_equals_its_slow_twin():
    torch.manual_seed(0)
    gradients = torch.randn(4, 3, 2, dtype=torch.float64)
    w = nn.Parameter(torch.randn(3, 2, dtype=torch.float64))
    options = {"lr": 0.7, "momentum": 0.8, "trust": 0.02}
    expected = slow_lars(
        w.detach().flatten().tolist(), gradients.flatten(1).tolist(), **options, decay=0.1
    )
    optimizer = LARS([{"params": [w], "weight_decay": 0.1}], **options)
    for g in gradients:
        w.grad = g.clone()
        optimizer.step()
    assert w.detach().flatten().tolist() == pytest.approx(expected, abs=1e-12)


def test_lars_takes_the_plain_rate_for_vectors_and_for_zeros():
    bias, zero = nn.Parameter(torch.ones(3)), nn.Parameter(torch.zeros(2, 2))
    optimizer = LARS([bias, zero], 0.5, momentum=0.0)
    bias.grad, zero.grad = torch.ones(3), torch.ones(2, 2)
    optimizer.step()
    assert torch.equal(bias.detach(), torch.full((3,), 0.5))
    assert torch.equal(zero.detach(), torch.full((2, 2), -0.5))


def test_sgd_looks_ahead_by_nesterov():
    w = nn.Parameter(torch.tensor([[2.0]]))
    optimizer = OptimizerConfig(name="sgd", lr=0.1, momentum=0.5, weight_decay=0.0).build(
        nn.ParameterList([w])
    )
    expected, velocity = 2.0, 0.0
    for gradient in (1.0, -2.0, 3.0):
        w.grad = torch.tensor([[gradient]])
        optimizer.step()
        velocity = 0.5 * velocity + gradient
        expected -= 0.1 * (gradient + 0.5 * velocity)
        assert float(w.detach()) == pytest.approx(expected, rel=1e-6)


class Attentive(nn.Module):
    """Everything that must not decay, beside what must."""

    def __init__(self):
        super().__init__()
        self.table, self.token = nn.Parameter(torch.ones(9, 4)), nn.Parameter(torch.ones(1, 1, 4))
        self.embedding, self.norm = nn.Embedding(5, 4), nn.LayerNorm(4)
        self.attention, self.linear = nn.MultiheadAttention(4, 2), nn.Linear(4, 4)
        self.convolution = nn.Conv3d(1, 4, 3)
        self.last = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4, bias=False))
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def test_only_matrices_and_kernels_decay():
    net = Attentive()
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    decayed, plain = OptimizerConfig(weight_decay=0.1).build(net).param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0)
    assert {names[id(p)] for p in decayed["params"]} == {
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "linear.weight",
        "convolution.weight",
        "last.parametrizations.weight.original0",
        "last.parametrizations.weight.original1",
    }
    grouped = [names[id(p)] for group in (decayed, plain) for p in group["params"]]
    assert sorted(grouped) == sorted(n for n, p in net.named_parameters() if p.requires_grad)


@pytest.mark.parametrize("kind", [SegResNetEncoder, UNetEncoder])
def test_rates_fall_by_the_decay_from_stage_to_stage_and_heads_keep_theirs(kind):
    encoder = kind.Config.tiny().build()
    method = nn.ModuleDict({"encoder": encoder, "head": nn.Linear(3, 3)})
    optimizer = OptimizerConfig(lr=1.0, layer_decay=0.5).build(method, encoder)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    stages = encoder.stages()
    for index, stage in enumerate(stages):
        assert {rates[id(p)] for p in stage.parameters()} <= {0.5 ** (len(stages) - index)}
    assert {rates[id(p)] for p in method["head"].parameters()} == {1.0}
    assert len(rates) == len(list(method.parameters()))


def test_what_belongs_to_no_stage_counts_as_the_first():
    encoder = SegResNetEncoder.Config.tiny().build()
    encoder.token = nn.Parameter(torch.zeros(4))
    assert stage_depths(encoder)[id(encoder.token)] == len(encoder.stages())


def read_and_seen(tmp_path, train):
    text = tiny_text(tmp_path / "text").model_copy(update={"train": train, "last_n": 1}).build()
    encoder = SegResNetEncoder.Config.tiny().build()
    return nn.ModuleDict({"encoder": encoder, "text": text, "head": nn.Linear(3, 3)})


@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
def test_a_text_encoder_has_a_rate_of_its_own(tmp_path, layer_decay):
    method = read_and_seen(tmp_path, "last_n")
    config = OptimizerConfig(lr=2.0, layer_decay=layer_decay, text_lr_scale=0.1)
    groups = config.build(method, method["encoder"]).param_groups
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    trained = [p for p in method["text"].parameters() if p.requires_grad]
    assert trained
    assert [rates[id(p)] for p in trained] == pytest.approx([0.2] * len(trained))
    assert {rates[id(p)] for p in method["head"].parameters()} == {2.0}
    whole = OptimizerConfig(lr=2.0, layer_decay=layer_decay).build(method, method["encoder"])
    others = {id(p): group["lr"] for group in whole.param_groups for p in group["params"]}
    assert all(rates[id(p)] == others[id(p)] for p in method["encoder"].parameters())
    assert len(rates) == sum(p.requires_grad for p in method.parameters())


def test_a_rate_for_a_text_encoder_that_does_not_train_is_refused(tmp_path):
    for method in (read_and_seen(tmp_path, "frozen"), nn.Linear(2, 2)):
        with pytest.raises(ConfigError, match="no text encoder trains"):
            OptimizerConfig(text_lr_scale=0.1).build(method)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "sgd", "betas": [0.5, 0.6]}, "sgd has no betas: leave it out"),
        ({"name": "adamw", "trust": 0.1}, "adamw has no trust"),
        ({"name": "sgd", "momentum": 0}, "nesterov needs a momentum above 0"),
    ],
)
def test_options_of_another_rule_are_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        validate(OptimizerConfig, options, where="here")


def test_options_reach_the_rule():
    adamw = OptimizerConfig(lr=0.1, betas=(0.8, 0.9), amsgrad=True).build(nn.Linear(2, 2))
    assert isinstance(adamw, torch.optim.AdamW)
    assert (adamw.defaults["betas"], adamw.defaults["amsgrad"]) == ((0.8, 0.9), True)
    assert isinstance(OptimizerConfig(name="lars").build(nn.Linear(2, 2)), LARS)
