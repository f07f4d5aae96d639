"""Files as other programs lay them out, written from their tables of names and shapes.

And the encoders that they are loaded into.
"""

from collections import OrderedDict

import torch

from medssl.models.adapt import load_weights
from medssl.models.encoders.swin_unetr import SwinUNETREncoder
from medssl.models.encoders.unet import UNetEncoder
from medssl.models.encoders.vit import ViTEncoder
from medssl.models.foreign import read_weights

CHANNELS = (4, 6, 8)


def swin(**options):
    return SwinUNETREncoder.Config(feature_size=12, **options).build()


def unet(**options):
    given = {"channels": CHANNELS, "depths": (2, 2, 2), **options}
    return UNetEncoder.Config(**given).build()


def vit(**options):
    return ViTEncoder.Config.tiny().model_copy(update={"positions": "learned", **options}).build()


def load(path, encoder, **options):
    return load_weights(encoder, read_weights(path), **options)


def saved(tmp_path, held, name="weights.pt"):
    torch.save(held, tmp_path / name)
    return tmp_path / name


def check_equal(module, expected):
    """Check that a module holds exactly these tensors."""
    state = module.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], value) for name, value in expected.items())


def swin_table(size, *, window=7, in_channels=1, depth=2):
    """Return {name: shape} of the encoder that VoCo publishes, for its ``feature_size``."""
    table = {
        "swinViT.patch_embed.proj.weight": (size, in_channels, 2, 2, 2),
        "swinViT.patch_embed.proj.bias": (size,),
    }
    for stage, heads in enumerate((3, 6, 12, 24)):
        width = size * 2**stage
        for block in range(depth):
            names = _block(width, heads, window)
            above = f"swinViT.layers{stage + 1}.0.blocks.{block}."
            table |= {above + name: shape for name, shape in names.items()}
        above = f"swinViT.layers{stage + 1}.0.downsample."
        table[above + "reduction.weight"] = (2 * width, 8 * width)
        table |= {above + f"norm.{name}": (8 * width,) for name in ("weight", "bias")}
        table |= _convs(f"swinViT.layers{stage + 1}c.0.layer", width, width)
    table |= _convs("encoder1.layer", in_channels, size)
    for name, factor in (("encoder2", 1), ("encoder3", 2), ("encoder4", 4), ("encoder10", 16)):
        table |= _convs(f"{name}.layer", factor * size, factor * size)
    return table


def decoder_table(size):
    """Return {name: shape} of the decoder in VoComni's files."""
    table = {}
    for level, factors in ((5, (16, 8)), (4, (8, 4)), (3, (4, 2)), (2, (2, 1)), (1, (1, 1))):
        below, here = (size * factor for factor in factors)
        table[f"decoder{level}.transp_conv.conv.weight"] = (below, here, 2, 2, 2)
        table |= _convs(f"decoder{level}.conv_block", 2 * here, here)
    return table


def _block(width, heads, window):
    places = window**3
    return {
        **{f"norm{n}.{name}": (width,) for n in (1, 2) for name in ("weight", "bias")},
        "attn.relative_position_bias_table": ((2 * window - 1) ** 3, heads),
        "attn.relative_position_index": (places, places),
        "attn.qkv.weight": (3 * width, width),
        "attn.qkv.bias": (3 * width,),
        "attn.proj.weight": (width, width),
        "attn.proj.bias": (width,),
        "mlp.linear1.weight": (4 * width, width),
        "mlp.linear1.bias": (4 * width,),
        "mlp.linear2.weight": (width, 4 * width),
        "mlp.linear2.bias": (width,),
    }


def _convs(above, before, after):
    table = {
        f"{above}.conv1.conv.weight": (after, before, 3, 3, 3),
        f"{above}.conv2.conv.weight": (after, after, 3, 3, 3),
    }
    if before != after:
        table[f"{above}.conv3.conv.weight"] = (after, before, 1, 1, 1)
    return table


def drawn(table, seed=0):
    """Return tensors of a table's shapes, a flat dictionary as VoCo's files are."""
    generator = torch.Generator().manual_seed(seed)
    return OrderedDict(
        (name, position_index(round(shape[0] ** (1 / 3))))
        if name.endswith("index")
        else (name, torch.randn(shape, generator=generator))
        for name, shape in table.items()
    )


def position_index(window, dims=3):
    """Return the row of the table of relative positions for each pair of a window's places."""
    side = 2 * window - 1
    places_NX = torch.cartesian_prod(*[torch.arange(window)] * dims)
    apart_NNX = places_NX[:, None] - places_NX + window - 1
    return (apart_NNX * torch.tensor([side**axis for axis in reversed(range(dims))])).sum(-1)


def voco(size=12, seed=0, **options):
    """``VoCo_{B,L,H}_SSL_head.pt`` and ``VoCo_10k.pt``: 145 tensors, nothing around them."""
    return drawn(swin_table(size, **options), seed)


def vocomni(size=12, classes=21):
    """``VoComni_{B,L,H}.pt``: 167 tensors."""
    table = {
        **swin_table(size),
        **decoder_table(size),
        "out.conv.conv.weight": (classes, size, 1, 1, 1),
        "out.conv.conv.bias": (classes,),
    }
    return drawn(table)


def voco_10k_training(size=12):
    """A training checkpoint of VoCo's first code: two whole networks, each with a projector."""
    state = OrderedDict()
    for seed, copy in enumerate(("student", "teacher")):
        state |= {f"module.{copy}.{k}": v for k, v in voco(size, seed).items()}
        state[f"module.{copy}.proj_head.layer1.0.weight"] = torch.randn(16, 24 * size)
    return {"global_step": 20000, "state_dict": state}


def large_scale_training(size=12):
    """A training checkpoint of VoCo's second code: one network, two projectors."""
    state = OrderedDict((f"backbone.{k}", v) for k, v in voco(size).items())
    for copy in ("student", "teacher"):
        state[f"{copy}.layer1.0.weight"] = torch.randn(16, 24 * size)
    return {"epoch": 3, "state_dict": state}


def nvidia(size=12):
    """``model_swinvit.pt``: the transformer alone, without the blocks before its stages."""
    old = {}
    for name, value in voco(size).items():
        if name.startswith("swinViT.") and "c.0.layer" not in name:
            old[name.replace("swinViT.", "module.").replace("mlp.linear", "mlp.fc")] = value
    return {"state_dict": old}


def nvidia_ssl_head(size=12):
    """What today's ``ssl_head.py`` saves: the transformer under its name, and three heads."""
    state = {
        name: value
        for name, value in voco(size).items()
        if name.startswith("swinViT.") and "c.0.layer" not in name
    }
    state |= {"rotation_head.weight": torch.randn(4, 16), "contrastive_head.bias": torch.randn(5)}
    return {"epoch": 1, "state_dict": state, "optimizer": {"state": {0: {"step": 1}}}}


def nnunet(channels=(4, 6, 8), classes=21, *, dims=3, residual=False):
    """Plain or residual U-Nets of nnU-Net, every second name an alias, the encoder twice."""
    state = {}
    before = 1
    if residual:
        _named(state, "encoder.stem.convs.0", _nn_conv(1, channels[0], dims))
        before = channels[0]
    for stage, after in enumerate(channels):
        above = f"encoder.stages.{stage}"
        if residual:
            _residual(state, f"{above}.blocks.0", before, after, dims)
        else:
            for n, width in enumerate((before, after)):
                _named(state, f"{above}.0.convs.{n}", _nn_conv(width, after, dims))
        before = after
    state |= {f"decoder.{name}": value for name, value in state.items()}
    for level, (below, here) in enumerate(zip(channels[:0:-1], channels[-2::-1], strict=True)):
        for n, width in enumerate((2 * here,) if residual else (2 * here, here)):
            _named(state, f"decoder.stages.{level}.convs.{n}", _nn_conv(width, here, dims))
        state[f"decoder.transpconvs.{level}.weight"] = torch.randn(below, here, *[2] * dims)
        state[f"decoder.transpconvs.{level}.bias"] = torch.randn(here)
        state[f"decoder.seg_layers.{level}.weight"] = torch.randn(classes, here, *[1] * dims)
        state[f"decoder.seg_layers.{level}.bias"] = torch.randn(classes)
    return state


def _nn_conv(before, after, dims, kernel=3, *, bias=True):
    conv = {"weight": torch.randn(after, before, *[kernel] * dims)}
    if bias:
        conv["bias"] = torch.randn(after)
    return conv, {"weight": torch.randn(after), "bias": torch.randn(after)}


def _named(state, above, layers):
    for number, (kind, tensors) in enumerate(zip(("conv", "norm"), layers, strict=True)):
        for name, value in tensors.items():
            state[f"{above}.{kind}.{name}"] = value
            state[f"{above}.all_modules.{number}.{name}"] = value


def _residual(state, above, before, after, dims):
    _named(state, f"{above}.conv1", _nn_conv(before, after, dims))
    _named(state, f"{above}.conv2", _nn_conv(after, after, dims))
    if before != after:
        _named(state, f"{above}.skip.1", _nn_conv(before, after, dims, 1, bias=False))


def nnssl(channels=(4, 6, 8)):
    """What nnssl hands to nnU-Net: the encoder and what there is to know about it."""
    return {
        "network_weights": nnunet(channels, residual=True),
        "nnssl_adaptation_plan": {
            "architecture_plans": {"arch_class_name": "ResEncL", "arch_kwargs": None},
            "pretrain_num_input_channels": 1,
            "key_to_encoder": "encoder.stages",
            "key_to_stem": "encoder.stem",
            "keys_to_in_proj": ("encoder.stem.convs.0.conv",),
        },
        "citations": ["a paper"],
    }
