"""One anatomy in two MR contrasts: embed both alike, and restore what spoils them.

Chalcroft et al., "Unified 3D MRI Representations via Sequence-Invariant Contrastive Learning"
(SASHIMI 2025).
"""

import math
from typing import Annotated, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from medssl.data.sequence_views import VIEWS, SequenceViews
from medssl.data.views import Batch
from medssl.losses.barlow import barlow
from medssl.losses.gather import gather_rows
from medssl.losses.ntxent import Pairs, masked_info_nce, pair_scores, pairs_of_samples
from medssl.methods.base import LossOutput, Method
from medssl.models.encoders.base import Encoder
from medssl.models.reconstructor import Reconstruction, Reconstructor
from medssl.runs.processes import world_size

Weight = Annotated[float, Field(ge=0)]
Positive = Annotated[int, Field(gt=0)]


class SequenceInvariant(Method):
    """Contrast two contrasts of one place, and reconstruct each without its artefacts."""

    class Config(Method.Config):
        views: SequenceViews = SequenceViews()
        """Two contrasts of every crop, deformed and spoiled."""
        objective: Literal["ntxent", "barlow"] = "ntxent"
        """What makes the two alike: NT-Xent, or Barlow Twins."""
        temperature: Annotated[float, Field(gt=0)] = 0.5
        """Divides the cosines of NT-Xent."""
        redundancy: Weight = 0.005
        """Weight of Barlow Twins' correlations between different features."""
        hidden_dim: Positive = 512
        """Width of the projector's hidden layer."""
        projection_dim: Positive = 128
        """Length of the vectors that are compared."""
        reconstruction: Reconstruction = "decoder"
        """What restores the views: `decoder` is kept for fine-tuning; `transposed` as published
        sees the coarsest map alone; so does `upsampled`."""
        contrastive_weight: Weight = 1.0
        """Of the objective."""
        reconstruction_weight: Weight = 1.0
        """Of the mean absolute difference from the clean views."""

        @classmethod
        def tiny(cls) -> Self:
            return cls(views=SequenceViews(crop_voxels=8), hidden_dim=16, projection_dim=8)

    def __init__(self, config: Config, encoder: Encoder) -> None:
        super().__init__()
        self.config, self.encoder, self.views = config, encoder, config.views
        self.project = nn.Sequential(
            nn.Linear(encoder.embed_dim, config.hidden_dim),
            nn.GELU(),
            nn.Linear(config.hidden_dim, config.projection_dim),
        )
        self.reconstruct = Reconstructor(config.reconstruction, encoder)
        self.decoder = self.reconstruct.decoder

    def loss(self, batch: Batch, *, progress: float) -> LossOutput:
        spoiled_BCIJK, clean_BCIJK = batch.views_BCIJK
        features = self.encoder.features(spoiled_BCIJK)
        z_ND = gather_rows(self.project(self.encoder.pool(features)))
        pairs = pairs_of_samples(torch.arange(len(z_ND), device=z_ND.device) // VIEWS)
        parts = {
            "contrastive": self._objective(z_ND, pairs),
            "reconstruction": F.l1_loss(self.reconstruct(features), clean_BCIJK),
        }
        weights = {name: getattr(self.config, f"{name}_weight") for name in parts}
        return LossOutput(
            total=torch.stack([weights[name] * part for name, part in parts.items()]).sum(),
            parts=parts,
            scores=pair_scores(z_ND, pairs),
            z_ND=z_ND,
        )

    def constant_loss(self, batch: Batch) -> dict[str, float]:
        """Return ``log(2N - 1)`` for NT-Xent with N samples, 1 for Barlow Twins."""
        rows = len(batch.views_BCIJK[0]) * world_size()
        blind = math.log(rows - 1) if self.config.objective == "ntxent" else 1.0
        return {"contrastive": blind}

    def _objective(self, z_ND: Tensor, pairs: Pairs) -> Tensor:
        if self.config.objective == "ntxent":
            return masked_info_nce(z_ND, *pairs, self.config.temperature)
        return barlow(z_ND[::VIEWS], z_ND[1::VIEWS], self.config.redundancy)
