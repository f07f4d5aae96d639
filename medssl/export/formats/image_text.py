"""A model of images and reports, whole or one side of it: for retrieval services and zero-shot."""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from medssl.errors import InputError
from medssl.evaluation.paired.retrieval import ranking_scores
from medssl.evaluation.paired.zero_shot import present_probability, sigmoid_probability
from medssl.export import open_image_text
from medssl.export.formats._huggingface import front_matter
from medssl.export.formats.base import Format, Papers
from medssl.export.model_card import CardConfig
from medssl.export.open_image_text import IMAGES, TEXTS
from medssl.export.verify import REPORT, VerificationError, run_alone
from medssl.models.image_text import ImageTextModel
from medssl.models.image_text_folder import INDEX, SIDES, load_image_text, save_image_text
from medssl.models.weights import write_tensors
from medssl.runs.digest import digest_file
from medssl.runs.folder import read_json, write_json

SENTENCES = (
    "There is an effusion on the left.",
    "No effusion is seen.",
    "A nodule in the right upper lobe. The heart is normal.",
    "CT of the chest.",
)
"""What verified models are asked to read; as many as studies that they are shown."""
_IMAGES = 2

_USAGE = """\
```python
from pathlib import Path
from medssl.models.image_text_folder import load_image_text

model, about = load_image_text(Path("."))        # this folder; no network is asked for
z_BD = model.embed_images(x_NCIJK)               # unit vectors of images, float32 in [0, 1]
t_ND = model.embed_texts(["There is an effusion on the left."])
score_BN = model.scale * z_BD @ t_ND.T
```

`encoder.json` says how intensities, spacing and views are prepared. A folder of one side embeds
that side alone: an index of images needs no text encoder, and a service that answers questions
from such an index needs no image encoder. Where `image_text.json` names a package in `text_from`,
the frozen weights of the text encoder are that package's, and their digests are checked."""


class ImageText(Format):
    """The folder of a `report_contrast` pretraining, without any place of the training machine."""

    class Config(Format.Config):
        parts: Literal["both", "image", "text"] = "both"
        """Which encoders, each with its pooling and projection."""
        copy_text: bool = False
        """Copy the weights of a frozen text encoder that an installed package holds too; off: the
        package, its version and its digests are named instead."""

    config: Config

    def digests(self, run: Path) -> dict[str, str]:
        load_image_text(run, trust_names=True)  # says what is wrong with it
        held = read_json(run / INDEX).get("parts") or SIDES
        if len(held) < len(SIDES):
            raise InputError(
                f"{run}: it is an export already, of the {held[0]} side of a model alone",
                hint="give the pretraining itself",
            )
        return {"image_text": digest_file(run / INDEX)}

    @property
    def _sides(self) -> tuple[str, ...]:
        return SIDES if self.config.parts == "both" else (self.config.parts,)

    def write(self, run: Path, folder: Path, card: CardConfig) -> None:
        model, about = load_image_text(run, trust_names=True)
        named = "text" in self._sides and not self.config.copy_text
        told = {name: value for name, value in about.items() if name != "encoder"}
        save_image_text(
            folder,
            model,
            parts=self._sides,
            text_from=_package_of(model) if named else None,
            **told,
        )

    def verify(self, run: Path, folder: Path) -> dict[str, Any]:
        try:
            load_image_text(folder, trust_names=True)
        except InputError as error:
            problem = f"the written model cannot be read back: {error.problem}"
            raise VerificationError(problem, hint=REPORT) from error
        model, _ = load_image_text(run, trust_names=True)
        images = _images(model)
        with torch.no_grad():
            mine = {
                "images": model.embed_images(**images),
                "texts": model.embed_texts(SENTENCES),
                "scale": model.scale.detach().reshape(1),
            }
        if model.bias is not None:
            mine["bias"] = model.bias.detach().reshape(1)
        given = _answers(folder, images)
        wanted = {"scale", *({"bias"} & mine.keys()), *(f"{side}s" for side in self._sides)}
        if given.keys() != wanted:
            raise VerificationError(
                f"the folder gives {', '.join(sorted(given))}, and should give "
                f"{', '.join(sorted(wanted))}",
                hint=REPORT,
            )
        scores, again = _scores(mine), _scores(mine | given)
        differing = [name for name in given if not torch.equal(given[name], mine[name])]
        differing += [n for n, score in scores.items() if not np.array_equal(score, again[n])]
        if differing:
            raise VerificationError(
                f"the reloaded model gives other {' and '.join(differing)} than the exported one",
                hint=REPORT,
            )
        return {
            "opened_by": "medssl, load_image_text, in a process whose sockets are refused",
            "parts": list(self._sides),
            "compared_to_the_bit": [*sorted(given), *scores],
            "text_weights": _whose(read_json(folder / INDEX), self._sides),
        }

    def papers(self, run: Path, card: CardConfig) -> Papers:
        index = read_json(run / INDEX)
        _, about = load_image_text(run, trust_names=True)
        shown = ("encoder", "spacing_mm", "intensity", "store_digest", "steps", "seed")
        facts = {
            "parts": list(self._sides),
            "dim": index["model"]["dim"],
            "text_encoder": index["model"]["text"]["name"],
            **{name: about[name] for name in shown if name in about},
        }
        head = front_matter(card.licence, library="medssl", about=about)
        title = "Image-text model" if len(self._sides) > 1 else f"{self._sides[0]} encoder"
        return Papers(
            title=title[:1].upper() + title[1:], usage=_USAGE, facts=facts, front_matter=head
        )


def _package_of(model: ImageTextModel) -> dict[str, Any] | None:
    """Return the package whose weights the text encoder has, to the bit; None without one."""
    told = model.text.packaged()
    if told is None:
        return None
    theirs, mine = model.config.text.build().state_dict(), model.text.state_dict()
    same = theirs.keys() == mine.keys() and all(torch.equal(theirs[n], mine[n]) for n in mine)
    return told if same else None


def _whose(index: Mapping[str, Any], sides: tuple[str, ...]) -> str:
    if "text" not in sides:
        return "none"
    told = index.get("text_from")
    return f"of the package {told['package']} {told['version']}" if told else "in the folder"


def _images(model: ImageTextModel) -> dict[str, Tensor]:
    """Return studies of one or two random images."""
    encoder, studies = model.encoder, len(SENTENCES)
    generator = torch.Generator().manual_seed(0)
    size = (2 * max(encoder.strides),) * encoder.dims
    channels = int(getattr(encoder.config, "in_channels", 1))
    mask_BS = torch.ones(studies, _IMAGES, dtype=torch.bool)
    mask_BS[-1, -1] = False
    return {
        "x_NCIJK": torch.rand(studies * _IMAGES, channels, *size, generator=generator),
        "mask_BS": mask_BS,
        "position_mm_BS": 100 * torch.rand(studies, _IMAGES, generator=generator),
    }


def _answers(folder: Path, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
    with tempfile.TemporaryDirectory() as scratch:
        asked, answered = Path(scratch), Path(scratch) / "answered.safetensors"
        write_tensors(asked / IMAGES, images)
        write_json(asked / TEXTS, list(SENTENCES))
        command = [sys.executable, "-m", open_image_text.__name__]
        run_alone(
            [*command, folder.resolve(), asked, answered, str(torch.get_num_threads())],
            failure="a process of its own cannot use the written model",
            folder=asked,
        )
        return load_file(answered)


def _scores(vectors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return zero-shot scores of every study, and how well reports are found."""
    image_BD, text_ND = (vectors[name].double().numpy() for name in ("images", "texts"))
    scale = float(vectors["scale"])
    scores = {
        "zero_shot": present_probability(image_BD, text_ND[0], text_ND[1], scale),
        "retrieval": np.stack(
            [*ranking_scores(image_BD @ text_ND.T, np.eye(len(image_BD), dtype=bool)).values()]
        ),
    }
    if "bias" in vectors:
        bias = float(vectors["bias"])
        scores["sigmoid"] = sigmoid_probability(image_BD, text_ND[0], scale, bias)
    return scores
