"""Three pretext tasks at once: how a crop is turned, which crop it is, what its gaps hide.

Tang et al., "Self-Supervised Pre-Training of Swin Transformers for 3D Medical Image Analysis"
(CVPR 2022, arXiv:2111.14791). Published for the encoder of Swin UNETR; any encoder will do.
"""

import math
from typing import Annotated, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from medssl.data.rotation_views import VIEWS, RotationViews
from medssl.data.views import Batch
from medssl.losses.gather import gather_rows
from medssl.losses.ntxent import masked_info_nce, pair_scores, pairs_of_samples
from medssl.methods.base import LossOutput, Method
from medssl.models.encoders.base import Encoder
from medssl.models.reconstructor import Reconstruction, Reconstructor
from medssl.runs.processes import world_size

TURNS = 4
Weight = Annotated[float, Field(ge=0)]


class SwinPretext(Method):
    """Tell the turn of a view, tell which views show one crop, and fill the gaps."""

    class Config(Method.Config):
        views: RotationViews = RotationViews()
        """Two views of every crop, turned and cut out."""
        pooling: Literal["mean", "token"] = "mean"
        """What the two heads read: the encoder's pooled embedding, or, as published, the first
        voxel of the coarsest map (turn) and the second (which crop)."""
        projection_dim: Annotated[int, Field(gt=0)] = 512
        """Length of the vectors that are contrasted."""
        temperature: Annotated[float, Field(gt=0)] = 0.5
        """Divides their cosines."""
        reconstruction: Reconstruction = "decoder"
        """What fills the gaps: `decoder` is kept for fine-tuning; `upsampled` as published sees
        the coarsest map alone; so does `transposed`."""
        rotation_weight: Weight = 1.0
        """Of the cross entropy of the turns."""
        contrastive_weight: Weight = 1.0
        """Of NT-Xent between the views."""
        reconstruction_weight: Weight = 1.0
        """Of the mean absolute difference from the view without gaps."""

        @classmethod
        def tiny(cls) -> Self:
            return cls(views=RotationViews(crop_voxels=8), projection_dim=16)

    def __init__(self, config: Config, encoder: Encoder) -> None:
        super().__init__()
        self.config, self.encoder, self.views = config, encoder, config.views
        width = encoder.embed_dim if config.pooling == "mean" else encoder.channels[-1]
        self.turn = nn.Linear(width, TURNS)
        self.project = nn.Linear(width, config.projection_dim)
        self.reconstruct = Reconstructor(config.reconstruction, encoder)
        self.decoder = self.reconstruct.decoder

    def loss(self, batch: Batch, *, progress: float) -> LossOutput:
        altered_BCIJK, whole_BCIJK = batch.views_BCIJK
        turns_B = batch.geometry["quarter_turns_BN"].flatten()
        features = self.encoder.features(altered_BCIJK)
        for_turn_BD, for_crop_BD = self._pooled(features)
        logits_B4 = self.turn(for_turn_BD)
        z_ND = gather_rows(self.project(for_crop_BD))
        pairs = pairs_of_samples(torch.arange(len(z_ND), device=z_ND.device) // VIEWS)
        parts = {
            "rotation": F.cross_entropy(logits_B4, turns_B),
            "contrastive": masked_info_nce(z_ND, *pairs, self.config.temperature),
            "reconstruction": F.l1_loss(self.reconstruct(features), whole_BCIJK),
        }
        weights = {name: getattr(self.config, f"{name}_weight") for name in parts}
        return LossOutput(
            total=torch.stack([weights[name] * part for name, part in parts.items()]).sum(),
            parts=parts,
            scores={
                "rotation_accuracy": (logits_B4.argmax(1) == turns_B).float().mean(),
                **pair_scores(z_ND, pairs),
            },
            z_ND=z_ND,
        )

    def constant_loss(self, batch: Batch) -> dict[str, float]:
        """Return ``log 4`` for the turns, and ``log(2N - 1)`` for N crops of two views."""
        rows = len(batch.views_BCIJK[0]) * world_size()
        return {"rotation": math.log(TURNS), "contrastive": math.log(rows - 1)}

    def _pooled(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return what the head of turns reads and what the head of crops reads, ``(B, D)``."""
        if self.config.pooling == "mean":
            embedding_BD = self.encoder.pool(features)
            return embedding_BD, embedding_BD
        tokens_BDT = features[-1].flatten(2)
        return tokens_BDT[..., 0], tokens_BDT[..., 1]
