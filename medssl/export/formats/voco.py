"""A Swin UNETR as VoCo publishes it: one flat dictionary of tensors under MONAI's names.

Wu et al. 2024 (arXiv:2402.17300, arXiv:2410.09890): ``VoCo_{B,L,H}_SSL_head.pt`` hold the encoder
alone, 145 tensors; ``VoComni_{B,L,H}.pt`` the whole network, 167.
"""

from collections import OrderedDict
from pathlib import Path
from typing import Any, cast

from monai.networks.nets.swin_unetr import SwinUNETR
from torch import Tensor

from medssl.config.stored import read_component
from medssl.errors import InputError
from medssl.export.formats._checkpoint import (
    check_equal,
    plain,
    read_checkpoint,
    write_checkpoint,
)
from medssl.export.formats._encoder import EncoderFormat
from medssl.export.formats._swin import compare_maps, not_swin
from medssl.export.model_card import CardConfig
from medssl.export.verify import REPORT, VerificationError
from medssl.models.encoders.base import Encoder
from medssl.models.encoders.swin_unetr import SwinUNETREncoder
from medssl.models.weights import EXPORTED_DESCRIPTION, load_decoder, load_encoder
from medssl.runs.digest import digest_file
from medssl.runs.folder import write_json
from medssl.training.task_model import (
    DESCRIPTION,
    is_task_model,
    load_task_model,
    read_description,
)

CHECKPOINT = "voco.pt"
CLASSES = 21
"""What VoComni's network tells apart; a network without a layer of classes gets one as wide."""

_PUBLISHED = {"dims": 3, "use_v2": True, "depths": (2, 2, 2, 2), "heads": (3, 6, 12, 24),
              "window": 7}  # fmt: skip
_LAST = "out.conv.conv.bias"
_USAGE = """\
```python
import torch
from monai.networks.nets import SwinUNETR

network = SwinUNETR(in_channels=1, out_channels=CLASSES, feature_size=..., use_v2=True)
network.load_state_dict(torch.load("voco.pt", weights_only=True), strict=False)
```

`feature_size` is in `config.json`; VoCo's own scripts take the file as `--pretrained_checkpoint`.
They run with MONAI 1.3 or 1.4, and take over without a word only what fits by name and shape.
Input: float32 in [0, 1], axes towards right, anterior, superior; intensities and spacing as in
`config.json`."""


class VoCo(EncoderFormat):
    """``voco.pt`` and the encoder's description.

    Of a pretraining the encoder, and the decoder where one was trained beside it; of one model of
    a finetuning the whole network.
    """

    class Config(EncoderFormat.Config):
        """There is nothing to set."""

    title = "Swin UNETR in VoCo's layout"
    usage = _USAGE
    library = "monai"

    @classmethod
    def refusal(cls, encoder: Encoder) -> str:
        reason = not_swin(encoder)
        if reason:
            return reason
        config = cast(SwinUNETREncoder, encoder).config.model_dump()
        other = [name for name, value in _PUBLISHED.items() if config[name] != value]
        told = ", ".join(f"{name} {config[name]} (here {_PUBLISHED[name]})" for name in other)
        return f"VoCo's network is another one: the encoder has {told}" if other else ""

    def digests(self, run: Path) -> dict[str, str]:
        if not is_task_model(run):
            return super().digests(run)
        about = read_description(run)
        reason = self.refusal(_encoder_of(run))
        if reason or (about.network_def or {}).get("_target_") != "SwinUNETR":
            raise InputError(
                f"{run}: {reason or 'its network is not the whole SwinUNETR of MONAI'}"
            )
        return {"model": about.weights_digest, "description": digest_file(run / DESCRIPTION)}

    def write(self, run: Path, folder: Path, card: CardConfig) -> None:
        _, state = _network_of(run)
        write_checkpoint(folder / CHECKPOINT, plain(state))
        write_json(folder / EXPORTED_DESCRIPTION, self.about(run))

    def about(self, run: Path) -> dict[str, Any]:
        if not is_task_model(run):
            return super().about(run)
        shown = {"title", "encoder", "labels", "modality", "spacing_mm", "training"}
        return read_description(run).model_dump(mode="json", include=shown)

    def verify(self, run: Path, folder: Path) -> dict[str, Any]:
        encoder, mine = _network_of(run)
        held = read_checkpoint(folder / CHECKPOINT)
        if not isinstance(held, dict) or not all(isinstance(v, Tensor) for v in held.values()):
            raise VerificationError(f"{CHECKPOINT} is no flat dictionary of tensors", hint=REPORT)
        check_equal(held, mine, where=CHECKPOINT)
        classes = len(held[_LAST]) if _LAST in held else CLASSES
        config = encoder.config
        network = SwinUNETR(
            config.in_channels, classes, feature_size=config.feature_size, use_v2=True
        )
        begun = network.state_dict()
        parts = {name.partition(".")[0] for name in held}
        expected = [name for name in begun if name.partition(".")[0] in parts]
        if list(held) != expected:
            raise VerificationError(
                f"{CHECKPOINT}: names are not those of MONAI's SwinUNETR, in its order", hint=REPORT
            )
        network.load_state_dict({**begun, **held}, strict=True)
        return {
            "opened_by": "MONAI, SwinUNETR(use_v2=True), every name and shape",
            "tensors": f"{len(held)}, equal to the bit",
            "parameters": sum(v.numel() for v in held.values() if v.is_floating_point()),
            "parts": ", ".join(dict.fromkeys(name.partition(".")[0] for name in held)),
            "largest_difference_of_maps": compare_maps(network, encoder, whole=True),
        }


def _encoder_of(run: Path) -> Encoder:
    """Return the encoder of a task model, without its weights."""
    about = read_description(run)
    encoder: Encoder = read_component(
        "medssl.models.encoders", about.encoder, trust_names=True
    ).build()
    return encoder


def _network_of(run: Path) -> tuple[SwinUNETREncoder, OrderedDict[str, Tensor]]:
    """Return the encoder, and the tensors of all there is of the network, in MONAI's order."""
    if not is_task_model(run):
        encoder, _ = load_encoder(run, trust_names=True)
        decoder = load_decoder(run, encoder)
        state = {**encoder.state_dict(), **(decoder.state_dict() if decoder else {})}
    else:
        encoder = _encoder_of(run)
        state = load_task_model(run, trust_names=True).network.state_dict()
        encoder.load_state_dict({name: state[name] for name in encoder.state_dict()})
    return cast(SwinUNETREncoder, encoder), OrderedDict(state)
