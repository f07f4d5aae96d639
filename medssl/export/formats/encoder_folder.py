"""An encoder as safetensors and JSON: for medssl itself, and for anyone who reads safetensors."""

from pathlib import Path
from typing import Any

import torch

from medssl.errors import InputError
from medssl.export.formats._checkpoint import check_equal
from medssl.export.formats._encoder import EncoderFormat
from medssl.export.model_card import CardConfig
from medssl.export.verify import REPORT, VerificationError
from medssl.models.encoders.base import Encoder
from medssl.models.weights import EXPORTED_DESCRIPTION, WEIGHTS, load_encoder
from medssl.runs.folder import write_json

_USAGE = """\
```python
from pathlib import Path
from medssl.models.weights import load_encoder

encoder, about = load_encoder(Path("."))   # this folder
maps = encoder.features(x_BCIJK)           # feature maps, finest first
z_BD = encoder.embed(x_BCIJK)              # one vector per volume
```

`medssl finetune` takes this folder as `encoder_from`. Input: float32 in [0, 1], axes towards
right, anterior, superior; intensities and spacing as in `config.json`. `encoder.safetensors`
opens with the safetensors library of any framework."""


class EncoderFolder(EncoderFormat):
    """``encoder.safetensors``, ``config.json``, a model card and the provenance."""

    class Config(EncoderFormat.Config):
        """There is nothing to set."""

    title = "Encoder"
    usage = _USAGE
    library = "medssl"

    def write(self, run: Path, folder: Path, card: CardConfig) -> None:
        (folder / WEIGHTS).write_bytes((run / WEIGHTS).read_bytes())
        write_json(folder / EXPORTED_DESCRIPTION, self.about(run))

    def verify(self, run: Path, folder: Path) -> dict[str, Any]:
        original, _ = load_encoder(run, trust_names=True)
        try:
            reloaded, _ = load_encoder(folder, trust_names=True)
        except InputError as error:
            problem = f"the written encoder cannot be read back: {error.problem}"
            raise VerificationError(problem, hint=REPORT) from error
        tensors = original.state_dict()
        check_equal(reloaded.state_dict(), tensors, where=WEIGHTS)
        size = 2 * max(original.strides)
        generator = torch.Generator().manual_seed(0)
        shape = (2, getattr(original.config, "in_channels", 1), *[size] * original.dims)
        x_BCIJK = torch.rand(shape, generator=generator)
        pairs = zip(_outputs(original, x_BCIJK), _outputs(reloaded, x_BCIJK), strict=True)
        if not all(torch.equal(mine, theirs) for mine, theirs in pairs):
            raise VerificationError(
                "the reloaded encoder gives other numbers than the exported one", hint=REPORT
            )
        return {
            "opened_by": "medssl, load_encoder",
            "tensors": len(tensors),
            "parameters": sum(value.numel() for value in tensors.values()),
            "outputs_compared": "features and embeddings of two random volumes: equal to the bit",
        }


@torch.no_grad()
def _outputs(encoder: Encoder, x_BCIJK: torch.Tensor) -> list[torch.Tensor]:
    encoder.eval()
    return [*encoder.features(x_BCIJK), encoder.embed(x_BCIJK)]
