"""Core-tuning of a classifier: the features of one class stay together."""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from medssl.config.base import Config
from medssl.losses.core_tuning import core_tuning, draw
from medssl.models.classifier import Classifier
from medssl.tasks._objective import Objective, Sample
from medssl.tasks.base import Task


class CoreTuningConfig(Config):
    """How much features of one class are held together (Zhang et al. 2021, arXiv:2102.06605)."""

    weight: Annotated[float, Field(gt=0)] = 0.1
    """Of the contrast beside the cross-entropy; the paper tries 0.1, 1 and 10."""
    temperature: Annotated[float, Field(gt=0)] = 0.07
    """Divides the cosines."""
    alpha: Annotated[float, Field(gt=0)] = 1.0
    """Of the Beta distribution that says how much hard pairs are mixed; 1 is uniform."""
    projection_dim: Annotated[int, Field(gt=0)] = 256
    """Length of the vectors that are contrasted."""


class CoreTuning(Objective):
    """Cross-entropy that is smooth between classes, and a contrast of hard pairs."""

    network: Classifier

    def __init__(self, task: Task, network: Classifier, config: CoreTuningConfig) -> None:
        super().__init__(task, network)
        self.config, width = config, network.head.in_features
        self.project = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, config.projection_dim)
        )

    def forward(self, batch: Sample) -> Tensor:
        """Return both parts; volumes whose class is not known do not count."""
        class_N = batch["target"]
        known_N = class_N >= 0
        if known_N.sum() < 2:  # noqa: PLR2004 - nothing to contrast
            return super().forward(batch)
        z_ND, class_N = self.network.embedded(batch["image"])[known_N], class_N[known_N]
        parts = core_tuning(
            z_ND,
            class_N,
            draw(class_N, self.config.alpha),
            classify=self.network.classified,
            project=self.project,
            temperature=self.config.temperature,
        )
        return parts.smooth + self.config.weight * parts.contrast
