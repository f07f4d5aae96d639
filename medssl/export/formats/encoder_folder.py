"""An encoder as safetensors and JSON: for medssl itself, and for anyone who reads safetensors."""

from pathlib import Path
from typing import Any

import torch

from medssl import __version__
from medssl.errors import InputError
from medssl.export.formats.base import Format
from medssl.export.model_card import CardConfig, render
from medssl.export.verify import REPORT, VerificationError
from medssl.models.encoders.base import Encoder
from medssl.models.weights import DESCRIPTION, EXPORTED_DESCRIPTION, WEIGHTS, load_encoder
from medssl.runs.digest import digest_file
from medssl.runs.folder import read_json, write_json, write_text

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


class EncoderFolder(Format):
    """``encoder.safetensors``, ``config.json``, a model card and the provenance."""

    class Config(Format.Config):
        """There is nothing to set."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def digests(self, run: Path) -> dict[str, str]:
        load_encoder(run, trust_names=True)  # says what is wrong with it
        return {"encoder": digest_file(run / WEIGHTS), "about": digest_file(run / DESCRIPTION)}

    def write(self, run: Path, folder: Path, card: CardConfig) -> None:
        (folder / WEIGHTS).write_bytes((run / WEIGHTS).read_bytes())
        write_json(folder / EXPORTED_DESCRIPTION, read_json(run / DESCRIPTION))

    def verify(self, run: Path, folder: Path) -> dict[str, Any]:
        original, _ = load_encoder(run, trust_names=True)
        try:
            reloaded, _ = load_encoder(folder, trust_names=True)
        except InputError as error:
            problem = f"the written encoder cannot be read back: {error.problem}"
            raise VerificationError(problem, hint=REPORT) from error
        size = 2 * max(original.strides)
        generator = torch.Generator().manual_seed(0)
        x_BCIJK = torch.rand(2, 1, size, size, size, generator=generator)
        pairs = zip(_outputs(original, x_BCIJK), _outputs(reloaded, x_BCIJK), strict=True)
        if not all(torch.equal(mine, theirs) for mine, theirs in pairs):
            raise VerificationError(
                "the reloaded encoder gives other numbers than the exported one", hint=REPORT
            )
        tensors = original.state_dict().values()
        return {
            "tensors": len(tensors),
            "parameters": sum(value.numel() for value in tensors),
            "outputs_compared": "features and embeddings of two random volumes: equal to the bit",
        }

    def document(self, run: Path, folder: Path, card: CardConfig, found: dict[str, Any]) -> None:
        about = read_json(run / DESCRIPTION)
        readme = render("Encoder", card, usage=_USAGE, facts=about, verified=found)
        write_text(folder / "README.md", readme)
        write_text(folder / "LICENSE", card.licence_text())
        provenance = {
            "medssl": __version__,
            "digests": {
                name: digest_file(folder / name) for name in (WEIGHTS, EXPORTED_DESCRIPTION)
            },
            "about": about,
            "verified": found,
        }
        write_json(folder / "provenance.json", provenance)


@torch.no_grad()
def _outputs(encoder: Encoder, x_BCIJK: torch.Tensor) -> list[torch.Tensor]:
    encoder.eval()
    return [*encoder.features(x_BCIJK), encoder.embed(x_BCIJK)]
