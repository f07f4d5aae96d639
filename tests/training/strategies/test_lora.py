"""Which layers of an encoder are changed, and how many weights that is."""

import pytest
import torch

from medssl.config.choice import find
from medssl.models.lora import LowRankLinear
from medssl.training.strategies.lora import LoRA

LAYERS = {
    ("vit", "attention"): {"qkv", "proj"},
    ("vit", "blocks"): {"qkv", "proj", "inner", "gate", "outer"},
    ("swin_unetr", "attention"): {"qkv", "proj"},
    ("swin_unetr", "blocks"): {"qkv", "proj", "linear1", "linear2"},
}


def prepared(name, *, seed=0, **options):
    torch.manual_seed(0)
    encoder = find("medssl.models.encoders", name).Config.tiny().build()
    LoRA.Config(**options).build().prepare(encoder, encoder, seed=seed)
    return encoder


def changed(encoder):
    return {n: m for n, m in encoder.named_modules() if isinstance(m, LowRankLinear)}


@pytest.mark.parametrize(("name", "where"), LAYERS)
def test_layers_are_found_by_what_holds_them(name, where):
    layers = changed(prepared(name, where=where))
    assert {path.rpartition(".")[2] for path in layers} == LAYERS[name, where]
    blocks = 2 if name == "vit" else 4
    assert len(layers) == blocks * len(LAYERS[name, where])


def test_alpha_over_rank_is_the_scale():
    assert {layer.scale for layer in changed(prepared("vit", rank=4, alpha=12)).values()} == {3.0}


def test_only_the_matrices_train_and_they_are_few():
    encoder = prepared("vit", rank=1)
    trained = {n: w.numel() for n, w in encoder.named_parameters() if w.requires_grad}
    assert all("low_rank" in name for name in trained)
    width = encoder.config.width
    assert sum(trained.values()) == 2 * ((width + 3 * width) + (width + width))  # of two blocks


def test_the_seed_decides_and_layers_differ():
    first, again, other = (prepared("vit", seed=seed) for seed in (1, 1, 2))
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)]
    assert all(same)
    drawn = [layer.low_rank_A for e in (first, other) for layer in changed(e).values()]
    assert not any(
        a.shape == b.shape and torch.equal(a, b)
        for n, a in enumerate(drawn)
        for b in drawn[n + 1 :]
    )


def test_padding_of_windows_is_still_padding():
    """The windowed attention takes the key of padding from the bias, which has no change."""
    encoder = prepared("swin_unetr", rank=2).double().eval()
    layers = changed(encoder).values()
    for layer in layers:
        torch.nn.init.normal_(layer.low_rank_B)
        torch.nn.init.normal_(layer.bias)
    x_BCIJK = torch.randn(
        1, 1, 96, 32, 32, dtype=torch.float64
    )  # 3 tokens wide where windows are 2
    before = encoder.embed(x_BCIJK)
    LoRA.Config().build().finished(encoder, encoder)
    torch.testing.assert_close(encoder.embed(x_BCIJK), before)
