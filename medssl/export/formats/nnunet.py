"""A U-Net encoder as nnU-Net starts trainings from: a checkpoint with an adaptation plan.

The layout is the one of nnssl, whose checkpoints nnU-Net finetunes; encoder and decoder are named
as nnU-Net names them, so that ``nnUNetv2_train -pretrained_weights`` takes the file too.
"""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor

from medssl.errors import InputError
from medssl.export.formats._checkpoint import plain, read_checkpoint, write_checkpoint
from medssl.export.formats._encoder import EncoderFormat
from medssl.export.formats._nnunet_plan import adaptation_plan
from medssl.export.formats._nnunet_reader import check_opened, check_plan, require_nnunet
from medssl.export.model_card import CardConfig
from medssl.models.encoders.base import Encoder
from medssl.models.encoders.unet import UNetEncoder
from medssl.models.weights import EXPORTED_DESCRIPTION, load_decoder, load_encoder
from medssl.runs.folder import write_json

CHECKPOINT, PLAN = "checkpoint_final.pth", "adaptation_plan.json"
Positive = Annotated[int, Field(gt=0)]

_USAGE = """\
With nnU-Net's own command, on a plan whose architecture is `architecture_plans` of
`adaptation_plan.json`:

```bash
nnUNetv2_train DATASET 3d_fullres 0 -p PLANS -pretrained_weights checkpoint_final.pth
```

With an nnU-Net that finetunes nnssl's checkpoints (its main branch since July 2026):

```bash
nnUNetv2_preprocess_like_nnssl -d DATASET -n NAME -pc checkpoint_final.pth -am like_pretrained
nnUNetv2_train_pretrained DATASET 3d_fullres 0 -p ptPlans__NAME... -tr PretrainedTrainer
```

That command normalises every image to mean 0 and standard deviation 1, whereas the encoder was
trained on intensities as in `config.json`; `nnUNetv2_plan_like_dynamic` keeps the normalisation of
your own plan. nnU-Net hands arrays to its network as (z, y, x); the kernels are {axes}."""


class NNUNet(EncoderFormat):
    """``checkpoint_final.pth``, ``adaptation_plan.json`` and the encoder's description."""

    class Config(EncoderFormat.Config):
        patch_voxels: tuple[Positive, Positive, Positive] = (160, 160, 160)
        """Patch that the plan recommends to nnU-Net, along I, J, K: multiples of the encoder's
        coarsest stride. nnssl recommends 160 for its large network."""
        reverse_axes: bool = False
        """The encoder learned on (x, y, z), nnU-Net feeds its network (z, y, x). On: kernels are
        turned round too, so nnU-Net's network finds what the pretraining did. Off: tensors stay
        as they were trained, to the bit."""
        citations: tuple[str, ...] = ()
        """Papers that nnU-Net asks its users to cite."""

        @model_validator(mode="after")
        def _no_empty_citation(self) -> Self:
            if not all(paper.strip() for paper in self.citations):
                raise ValueError("citations holds an empty text")
            return self

    title = "Encoder for nnU-Net"
    library = "nnunetv2"

    @property
    def usage(self) -> str:  # type: ignore[override]
        """How to open the artefact, as Markdown."""
        axes = "turned round to match" if self.config.reverse_axes else "over (x, y, z)"
        return _USAGE.format(axes=axes)

    @classmethod
    def refusal(cls, encoder: Encoder) -> str:
        if not isinstance(encoder, UNetEncoder):
            name = encoder.config.name  # type: ignore[union-attr]
            return f"nnU-Net has no encoder such as {name}, only U-Nets (encoder.name: unet)"
        return ""

    def digests(self, run: Path) -> dict[str, str]:
        found = super().digests(run)
        encoder, _ = load_encoder(run, trust_names=True)
        stride, patch = encoder.strides[-1], self.config.patch_voxels
        if any(size % stride for size in patch):
            larger = [-(-size // stride) * stride for size in patch]
            raise InputError(
                f"format.patch_voxels is {patch}, but this encoder needs multiples of {stride}",
                hint=f"set it to such, as in {larger}",
            )
        require_nnunet()  # before anything is left
        return found

    def write(self, run: Path, folder: Path, card: CardConfig) -> None:
        encoder, about = _unet(run)
        plan = adaptation_plan(encoder.config, about, self.config.patch_voxels)
        weights = nnunet_names(self._encoder_tensors(encoder), self._decoder_tensors(run, encoder))
        held = {
            "network_weights": weights,
            "nnssl_adaptation_plan": plan,
            "citations": _citations(self.config.citations),
        }
        write_checkpoint(folder / CHECKPOINT, held)
        write_json(folder / PLAN, plan)
        write_json(folder / EXPORTED_DESCRIPTION, about)

    def verify(self, run: Path, folder: Path) -> dict[str, Any]:
        encoder, about = _unet(run)
        held = read_checkpoint(folder / CHECKPOINT)
        plan = adaptation_plan(encoder.config, about, self.config.patch_voxels)
        check_plan(held, plan, folder / PLAN)
        tensors = self._encoder_tensors(encoder)
        found = check_opened(
            folder / CHECKPOINT, plan, tensors, encoder, reverse_axes=self.config.reverse_axes
        )
        return {**found, "decoder": self._decoder_origin(run)}

    def _encoder_tensors(self, encoder: UNetEncoder) -> OrderedDict[str, Tensor]:
        state = plain(encoder.net.state_dict())
        return turned(state) if self.config.reverse_axes else state

    def _decoder_tensors(self, run: Path, encoder: UNetEncoder) -> OrderedDict[str, Tensor]:
        decoder = load_decoder(run, encoder)
        if decoder is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)  # the same file whenever it is exported
                decoder = encoder.decoder()
        state = plain(decoder.state_dict())
        return turned(state) if self.config.reverse_axes else state

    def _decoder_origin(self, run: Path) -> str:
        encoder, _ = _unet(run)
        trained = load_decoder(run, encoder) is not None
        return "trained beside the encoder" if trained else "drawn at random, nnU-Net asks for one"


def nnunet_names(
    encoder: Mapping[str, Tensor], decoder: Mapping[str, Tensor]
) -> OrderedDict[str, Tensor]:
    """Return a U-Net's tensors under all names that nnU-Net gives them; one tensor, many names.

    Every convolution and norm is also an item of ``all_modules``, and the decoder holds the
    encoder. Layers that make classes are not among them: nnU-Net never takes those over.
    """
    once: OrderedDict[str, Tensor] = OrderedDict()
    for name, value in encoder.items():
        once[f"encoder.{name}"] = value
    for name, value in encoder.items():
        once[f"decoder.encoder.{name}"] = value
    for name, value in decoder.items():
        once[f"decoder.{name}"] = value
    named: OrderedDict[str, Tensor] = OrderedDict()
    for name, value in once.items():
        named[name] = value
        above, _, last = name.rpartition(".")
        for number, kind in enumerate((".conv", ".norm")):
            if above.endswith(kind):
                named[f"{above.removesuffix(kind)}.all_modules.{number}.{last}"] = value
    return named


def turned(state: Mapping[str, Tensor]) -> OrderedDict[str, Tensor]:
    """Return kernels over (x, y, z) as kernels over (z, y, x); vectors stay."""
    return OrderedDict(
        (name, value.permute(0, 1, *range(value.ndim - 1, 1, -1)).contiguous())
        if value.ndim > 2  # noqa: PLR2004  two axes of channels
        else (name, value)
        for name, value in state.items()
    )


def _unet(run: Path) -> tuple[UNetEncoder, dict[str, Any]]:
    encoder, about = load_encoder(run, trust_names=True)
    return cast(UNetEncoder, encoder), about


def _citations(papers: tuple[str, ...]) -> list[dict[str, Any]]:
    return [{"type": "Pretraining", "name": "medssl", "apa_citations": list(papers)}]
