"""A Swin transformer as MONAI's ``SwinUNETR.load_from`` takes it: NVIDIA's ``model_swinvit.pt``.

Tang et al. 2022 (arXiv:2111.14791); the names are those of its first code.
"""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from monai.networks.nets.swin_unetr import SwinUNETR
from torch import Tensor

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
from medssl.models.naming import SPELLINGS
from medssl.models.weights import EXPORTED_DESCRIPTION, load_encoder
from medssl.runs.folder import write_json

CHECKPOINT = "model_swinvit.pt"

_INSIDE = "swinViT."
_USAGE = """\
```python
import torch
from monai.networks.nets import SwinUNETR

network = SwinUNETR(in_channels=1, out_channels=CLASSES, feature_size=...)  # see config.json
network.load_from(torch.load("model_swinvit.pt", weights_only=True))
```

The transformer alone is taken over; the residual blocks behind it and the decoder begin at random.
Input: float32 in [0, 1], axes towards right, anterior, superior; intensities and spacing as in
`config.json`."""


class SwinSSL(EncoderFormat):
    """``model_swinvit.pt`` and the encoder's description."""

    class Config(EncoderFormat.Config):
        """There is nothing to set."""

    title = "Swin transformer for MONAI"
    usage = _USAGE
    library = "monai"

    @classmethod
    def refusal(cls, encoder: Encoder) -> str:
        reason = not_swin(encoder)
        if not reason and cast(SwinUNETREncoder, encoder).config.use_v2:
            return "load_from leaves out the convolutions before each stage (encoder.use_v2: true)"
        return reason

    def write(self, run: Path, folder: Path, card: CardConfig) -> None:
        encoder, about = load_encoder(run, trust_names=True)
        state = plain(published_names(encoder.state_dict()))
        write_checkpoint(folder / CHECKPOINT, {"state_dict": state})
        write_json(folder / EXPORTED_DESCRIPTION, about)

    def verify(self, run: Path, folder: Path) -> dict[str, Any]:
        encoder = cast(SwinUNETREncoder, load_encoder(run, trust_names=True)[0])
        held = read_checkpoint(folder / CHECKPOINT)
        mine = encoder.swinViT.state_dict()
        state = held.get("state_dict") if isinstance(held, dict) else None
        if state is None:
            raise VerificationError(f"{CHECKPOINT} lacks state_dict", hint=REPORT)
        check_equal(state, published_names(encoder.state_dict()), where=CHECKPOINT)
        network = _network(encoder)
        network.load_from(held)  # type: ignore[no-untyped-call]
        check_equal(network.swinViT.state_dict(), mine, where="what SwinUNETR.load_from took")
        return {
            "opened_by": "MONAI, SwinUNETR.load_from",
            "tensors": f"{len(mine)}, equal to the bit",
            "parameters": sum(value.numel() for value in encoder.swinViT.parameters()),
            "largest_difference_of_maps": compare_maps(network, encoder, whole=False),
            "left_out": f"{len(encoder.state_dict()) - len(mine)} tensors behind the transformer",
        }


def published_names(state: Mapping[str, Tensor]) -> OrderedDict[str, Tensor]:
    """Return the transformer's tensors under the names that ``load_from`` reads."""
    renamed: OrderedDict[str, Tensor] = OrderedDict()
    for name, value in state.items():
        if name.startswith(_INSIDE):
            older = f"module.{name.removeprefix(_INSIDE)}"
            for before, today in SPELLINGS:
                older = older.replace(today, before)
            renamed[older] = value
    return renamed


def _network(encoder: SwinUNETREncoder) -> SwinUNETR:
    config = encoder.config
    return SwinUNETR(
        in_channels=config.in_channels,
        out_channels=1,
        feature_size=config.feature_size,
        depths=config.depths,
        num_heads=config.heads,
        window_size=config.window,
        spatial_dims=config.dims,
    )
