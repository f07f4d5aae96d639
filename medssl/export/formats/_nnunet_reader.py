"""nnU-Net opens a checkpoint, in its own code: what it then holds is what was exported.

Released versions (2.8.1) load a whole U-Net by name. Its main branch since July 2026 also loads
the encoder alone and spreads its stem over more input channels; where that is installed, it is
asked too.
"""

import importlib
import io
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medssl.errors import InputError
from medssl.export.formats._checkpoint import check_equal, largest_difference
from medssl.export.verify import REPORT, VerificationError
from medssl.models.encoders.unet import UNetEncoder
from medssl.runs.folder import plain, read_json

CLOSE = 1e-6
"""Largest difference of maps in float64, relative to the largest; kernels turned round add up in
another order."""
MORE_CHANNELS = 4

_TRAINER = "nnunetv2.training.nnUNetTrainer.pretraining.dynamicPretrainedTrainer"
_CLASSES = 2


def require_nnunet() -> None:
    """Raise InputError unless nnU-Net is installed."""
    try:
        importlib.import_module("nnunetv2.run.load_pretrained_weights")
    except ImportError:
        raise InputError(
            "nnU-Net is not installed, and this format is kept only if nnU-Net itself opens it",
            hint='install it beside medssl: pip install "nnunetv2>=2.8"',
        ) from None


def check_plan(held: Any, plan: Mapping[str, Any], file: Path) -> None:
    """Compare the plan in a checkpoint, and beside it in ``file``, with ``plan``.

    Raises:
        VerificationError: The checkpoint has no weights or no plan, or a plan differs.
    """
    if not isinstance(held, dict) or not {"network_weights", "nnssl_adaptation_plan"} <= set(held):
        raise VerificationError(
            "the checkpoint lacks network_weights or nnssl_adaptation_plan", hint=REPORT
        )
    try:
        beside = read_json(file)
    except (OSError, ValueError) as error:
        raise VerificationError(
            f"{file.name} cannot be read back ({type(error).__name__})", hint=REPORT
        ) from error
    for where, found in (("the checkpoint", held["nnssl_adaptation_plan"]), (file.name, beside)):
        if plain(found) != plain(plan):
            raise VerificationError(f"the adaptation plan in {where} differs", hint=REPORT)


def check_opened(
    path: Path,
    plan: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    encoder: UNetEncoder,
    *,
    reverse_axes: bool,
) -> dict[str, Any]:
    """Let nnU-Net build the network and load the checkpoint, and compare both with the encoder.

    Args:
        path: The checkpoint.
        plan: Its adaptation plan.
        tensors: The encoder's, as they were exported.
        encoder: What was exported; float64 afterwards.
        reverse_axes: Whether ``tensors`` are over (z, y, x).

    Returns:
        What was compared, for the model card.

    Raises:
        VerificationError: nnU-Net cannot load it, or then holds or computes something else.
    """
    channels = plan["pretrain_num_input_channels"]
    network = _built(plan, channels)
    loader = importlib.import_module("nnunetv2.run.load_pretrained_weights")
    _loaded(loader.load_pretrained_weights, network, str(path))
    check_equal(_encoder_of(network), tensors, where="what nnU-Net loaded")
    difference = _compare_outputs(network, encoder, reverse_axes=reverse_axes)
    return {
        "opened_by": f"nnU-Net {version('nnunetv2')}, load_pretrained_weights",
        "encoder_tensors": f"{len(tensors)}, equal to the bit",
        "parameters": sum(value.numel() for value in tensors.values()),
        "largest_difference_of_maps": float(f"{difference:.1e}"),
        "more_input_channels": _check_nnssl_route(path, plan, tensors),
    }


def _check_nnssl_route(path: Path, plan: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Ask the loader of nnssl's checkpoints, where there is one, and return what was found."""
    try:
        with warnings.catch_warnings(action="ignore"):  # it lacks packages for other networks
            trainer = importlib.import_module(_TRAINER).DynamicPretrainedTrainer
    except ImportError:
        return "not asked: this nnU-Net has no loader of nnssl's checkpoints"
    before = plan["pretrain_num_input_channels"]
    stem = f"{plan['keys_to_in_proj'][0].removeprefix('encoder.')}.weight"
    # nnU-Net spreads a stem in three dimensions, of one channel, that stands outside of the stages
    spreads = before == 1 and tensors[stem].ndim == 5 and stem.startswith("stem")  # noqa: PLR2004
    asked = (before, MORE_CHANNELS) if spreads else (before,)
    for channels in asked:
        network = _built(plan, channels)
        _loaded(
            trainer.load_pretrained_weights_dynamic,
            network,
            pretrained_weights_path=str(path),
            pt_input_channels=before,
            downstream_input_channels=channels,
            pt_input_patchsize=plan["recommended_downstream_patchsize"],
            downstream_input_patchsize=plan["recommended_downstream_patchsize"],
            pt_key_to_encoder=plan["key_to_encoder"],
            pt_key_to_stem=plan["key_to_stem"],
            pt_keys_to_in_proj=plan["keys_to_in_proj"],
            pt_key_to_lpe=plan["key_to_lpe"],
            target_kernel_sizes=plan["architecture_plans"]["arch_kwargs"]["kernel_sizes"],
            target_n_stages=plan["architecture_plans"]["arch_kwargs"]["n_stages"],
        )
        spread = tensors[stem].repeat(1, channels // before, 1, 1, 1) * (before / channels)
        expected = {**tensors, stem: spread if channels != before else tensors[stem]}
        check_equal(_encoder_of(network), expected, where=f"nnU-Net with {channels} channels")
    counted = " and ".join(str(channels) for channels in asked)
    return f"load_pretrained_weights_dynamic with {counted}: equal to the bit"


def _built(plan: Mapping[str, Any], channels: int) -> nn.Module:
    """Return the network that nnU-Net builds by the plan."""
    planned = plan["architecture_plans"]
    module = importlib.import_module("nnunetv2.utilities.get_network_from_plans")
    network: nn.Module = module.get_network_from_plans(
        planned["arch_class_name"],
        planned["arch_kwargs"],
        planned["arch_kwargs_requiring_import"],
        channels,
        _CLASSES,
        deep_supervision=False,
    )
    return network.eval()


def _loaded(load: Any, network: nn.Module, *args: Any, **kwargs: Any) -> None:
    try:
        with redirect_stdout(io.StringIO()):  # it tells every tensor
            load(network, *args, **kwargs)
    except (AssertionError, KeyError, RuntimeError) as error:
        said = str(error).partition(". ")[0].partition("\n")[0]
        raise VerificationError(f"nnU-Net cannot load it: {said}", hint=REPORT) from error


def _encoder_of(network: nn.Module) -> dict[str, Tensor]:
    """Return the encoder's tensors under the first of their names."""
    encoder: nn.Module = network.encoder  # type: ignore[assignment]
    return {name: v for name, v in encoder.state_dict().items() if ".all_modules." not in name}


@torch.no_grad()
def _compare_outputs(network: nn.Module, encoder: UNetEncoder, *, reverse_axes: bool) -> float:
    stride = encoder.strides[-1]
    shape = (2 * stride, stride, 3 * stride)[: encoder.dims]
    generator = torch.Generator().manual_seed(0)
    size = (1, encoder.config.in_channels, *shape)
    x_BCIJK = torch.rand(size, generator=generator, dtype=torch.float64)

    def seen(x: Tensor) -> Tensor:
        return x.permute(0, 1, *range(x.ndim - 1, 1, -1)) if reverse_axes else x

    theirs = network.double().encoder(seen(x_BCIJK))  # type: ignore[operator]
    mine = encoder.eval().double().features(x_BCIJK)
    difference = largest_difference(zip(mine, map(seen, theirs), strict=True))
    if difference > CLOSE:
        raise VerificationError(
            f"nnU-Net's network gives other maps: they differ by {difference:.1g} of the largest",
            hint=REPORT,
        )
    return difference
