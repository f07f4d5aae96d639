"""What nnU-Net must know to build the network around an encoder: nnssl's adaptation plan."""

from collections.abc import Mapping
from typing import Any

from medssl.models.encoders.unet import UNetEncoder

_CLASSES = "dynamic_network_architectures.architectures.unet"


def adaptation_plan(
    encoder: UNetEncoder.Config, about: Mapping[str, Any], patch_voxels: tuple[int, int, int]
) -> dict[str, Any]:
    """Return nnssl's ``AdaptationPlan``; sizes and spacings along z, y, x, as nnU-Net has them.

    Args:
        encoder: The encoder's options.
        about: What the pretraining says about it.
        patch_voxels: Patch to recommend, along I, J, K.
    """
    patch = list(patch_voxels[: encoder.dims][::-1])
    spacing = about.get("spacing_mm")
    pretrained = {
        "spacing": list(spacing[::-1]) if spacing else None,
        "patch_size": _crop(about.get("method") or {}, encoder.dims) or patch,
    }
    stem = "encoder.stem" if encoder.residual else "encoder.stages.0.0"
    return {
        "architecture_plans": architecture(encoder),
        "pretrain_plan": {"configurations": {"medssl": pretrained}},
        "pretrain_num_input_channels": encoder.in_channels,
        "recommended_downstream_patchsize": patch,
        "key_to_encoder": "encoder.stages",
        "key_to_stem": "encoder.stem" if encoder.residual else "encoder.stages.0",
        "keys_to_in_proj": (f"{stem}.convs.0.conv", f"{stem}.convs.0.all_modules.0"),
        "key_to_lpe": None,
    }


def architecture(encoder: UNetEncoder.Config) -> dict[str, Any]:
    """Return the class and the arguments of nnU-Net's U-Net around the encoder."""
    stages, dims = len(encoder.channels), encoder.dims
    kind, depths = (
        ("ResidualEncoderUNet", "n_blocks_per_stage")
        if encoder.residual
        else ("PlainConvUNet", "n_conv_per_stage")
    )
    return {
        "arch_class_name": f"{_CLASSES}.{kind}",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": list(encoder.channels),
            "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
            "kernel_sizes": [[3] * dims for _ in range(stages)],
            "strides": [[1 if stage == 0 else 2] * dims for stage in range(stages)],
            depths: list(encoder.depths),
            "n_conv_per_stage_decoder": [encoder.decoder_convs] * (stages - 1),
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "arch_kwargs_requiring_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def _crop(method: Mapping[str, Any], dims: int) -> list[int] | None:
    """Return the size of the crops that a method's options tell, along z, y, x."""
    for name, value in method.items():
        if name == "crop_voxels":
            sizes = [value] * dims if isinstance(value, int) else list(value)
            return sizes[:dims][::-1]
        if isinstance(value, Mapping):
            found = _crop(value, dims)
            if found:
                return found
    return None
