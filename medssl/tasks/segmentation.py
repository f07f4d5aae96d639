"""Segmentation: one class per voxel, or regions that may overlap."""

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from medssl.errors import ConfigError
from medssl.losses.segmentation import SegmentationLoss, SegmentationLossConfig
from medssl.models.decoders import Decoder
from medssl.models.encoders.base import Encoder
from medssl.models.linear_segmenter import linear_segmenter
from medssl.tasks._deep_supervision import DeepSupervision
from medssl.tasks._objective import Objective, Sample
from medssl.tasks.base import Kind, Spec, Task

Regions = tuple[tuple[str, tuple[int, ...]], ...]


class Segmentation(Task):
    """Classes that exclude each other, or regions, each the union of some classes."""

    class Config(Task.Config):
        loss: SegmentationLossConfig = SegmentationLossConfig()
        """What is minimised."""
        deep_supervision: bool = False
        """Let coarser maps of the decoder learn to segment as well; their heads are dropped
        after the training."""
        head: Literal["decoder", "linear"] = "decoder"
        """`decoder`: U-shaped, of the encoder's kind; `linear`: one layer on all of its maps."""
        regions: Regions = ()
        """Names and class numbers of regions that are predicted instead of classes; where the
        data set declares some, these."""
        ignore_label: int | None = None
        """Number of voxels in the label maps that count nowhere."""
        overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
        """Share of a patch that neighbouring patches repeat when a whole volume is predicted."""
        patches_at_once: Annotated[int, Field(gt=0)] = 4
        """Patches per forward pass when a whole volume is predicted."""

    kind: ClassVar[Kind] = "segmentation"
    monitor: ClassVar[str] = "val/dice"
    target_key: ClassVar[str] = "label"

    def __init__(self, config: Config, labels: tuple[str, ...]) -> None:
        self.config: Segmentation.Config = config
        self.labels = labels
        self._loss = SegmentationLoss(
            config.loss,
            regions=[numbers for _, numbers in config.regions] or None,
            ignore_label=config.ignore_label,
        )

    @property
    def out_channels(self) -> int:
        return len(self.config.regions or self.labels)

    @property
    def answers(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.config.regions) or self.labels[1:]

    def looked_for(self, names: tuple[str, ...] | None) -> dict[str, bool]:
        """Return of every answer whether a case has it annotated; see :meth:`annotated`."""
        channels = self.annotated(names).tolist()[-len(self.answers) :]  # without the background
        return dict(zip(self.answers, channels, strict=True))

    @property
    def needs_decoder(self) -> bool:
        return self.config.deep_supervision

    def network(self, encoder: Encoder, decoder: Decoder | None = None) -> tuple[nn.Module, Spec]:
        if self.config.head == "linear":
            return linear_segmenter(encoder, self.out_channels)
        return encoder.segmenter(self.out_channels, decoder)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits; ``target`` ``(B, 1, I, J, K)`` holds class numbers."""
        return self._loss(output, target)

    def loss_of(self, output: Tensor, sample: Sample) -> Tensor:
        """Return the loss; where only some classes are annotated, only of these."""
        return self._loss(output, sample["label"], sample.get("annotated"))

    def objective(
        self, network: nn.Module, encoder: Encoder, decoder: Decoder | None = None
    ) -> Objective:
        if not self.config.deep_supervision:
            return super().objective(network, encoder, decoder)
        between = 0 if decoder is None else len(decoder.channels) - 2
        if decoder is None or between < 1 or self.config.head == "linear":
            raise ConfigError(
                "deep_supervision trains the maps between a decoder's coarsest and finest, and "
                "this network has none",
                hint="set task.deep_supervision to false, or choose an encoder of more stages and "
                "task.head decoder",
            )
        return DeepSupervision(self, network, encoder, decoder)

    def annotated(self, names: tuple[str, ...] | None) -> Tensor:
        """Return which channels of the logits a case has annotated, boolean; None: all of them.

        A region is annotated where all of its classes are; the background always is.
        """
        if names is None:
            return torch.ones(self.out_channels, dtype=torch.bool)
        numbers = {0, *(self.labels.index(name) for name in names)}
        channels = [members for _, members in self.config.regions] or [
            (number,) for number in range(len(self.labels))
        ]
        return torch.tensor([numbers.issuperset(members) for members in channels])

    def masks(self, logits_BCIJK: Tensor) -> Tensor:
        """Return what is predicted of every answer, ``(B, answers, I, J, K)``, boolean."""
        if self.config.regions:
            return logits_BCIJK > 0
        predicted_B1IJK = logits_BCIJK.argmax(1, keepdim=True)
        return self._classes(predicted_B1IJK)

    def reference_masks(self, label_B1IJK: Tensor) -> Tensor:
        """Return the truth about every answer, ``(B, answers, I, J, K)``, boolean."""
        if not self.config.regions:
            return self._classes(label_B1IJK)
        masks = [
            torch.isin(label_B1IJK, torch.tensor(numbers, device=label_B1IJK.device))
            for _, numbers in self.config.regions
        ]
        return torch.cat(masks, dim=1)

    def judged(self, label_B1IJK: Tensor) -> Tensor:
        """Return which voxels count, ``(B, 1, I, J, K)``, boolean."""
        if self.config.ignore_label is None:
            return torch.ones_like(label_B1IJK, dtype=torch.bool)
        return label_B1IJK != self.config.ignore_label

    def _classes(self, numbers_B1IJK: Tensor) -> Tensor:
        classes = torch.arange(1, len(self.labels), device=numbers_B1IJK.device)
        return numbers_B1IJK == classes.view(1, -1, *[1] * (numbers_B1IJK.ndim - 2))

    def inferer_spec(self, patch_voxels: tuple[int, int, int]) -> Spec:
        return {
            "_target_": "SlidingWindowInferer",
            "roi_size": list(patch_voxels),
            "sw_batch_size": self.config.patches_at_once,
            "overlap": self.config.overlap,
            "mode": "gaussian",
        }

    def postprocessing_specs(self) -> list[Spec]:
        # Probabilities are resampled, not classes: thin structures survive the way back.
        invert: dict[str, Any] = {
            "_target_": "Invertd",
            "keys": "pred",
            "transform": "@preprocessing",
            "orig_keys": "image",
            "nearest_interp": False,
            "to_tensor": True,
        }
        regions = bool(self.config.regions)
        activation = "sigmoid" if regions else "softmax"
        decide = {"threshold": 0.5} if regions else {"argmax": True}
        return [
            {"_target_": "Activationsd", "keys": "pred", activation: True},
            invert,
            {"_target_": "AsDiscreted", "keys": "pred", **decide},
        ]
