"""VoCo, large-scale variant: tell from a crop alone where in its volume it was cut.

Wu et al., "Large-Scale 3D Medical Image Pre-training with Geometric Context Priors" (TPAMI 2025,
arXiv:2410.09890). One pass of one backbone embeds random and base crops together; a slow copy of
the projector, not of the backbone, is the teacher.
"""

import copy
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from medssl.data.grid_views import GridViews
from medssl.data.views import Batch
from medssl.losses import voco as losses
from medssl.methods.base import LossOutput, Method
from medssl.models.ema import ema_update
from medssl.models.encoders.base import Encoder
from medssl.models.heads import BatchNormMLP, row_dropout


class VoCo(Method):
    """Predict how much each random crop overlaps each crop of a grid."""

    class Config(Method.Config):
        views: GridViews = GridViews()
        """The grid of base crops and the random crops cut over it."""
        hidden_dim: Annotated[int, Field(gt=0)] = 1024
        """Width of the projector's hidden layers."""
        projection_dim: Annotated[int, Field(gt=0)] = 1024
        """Length of the vectors the loss compares."""
        momentum: Annotated[float, Field(ge=0, le=1)] = 0.9
        """How much of the teacher projector survives each optimiser step."""
        regulariser: Literal["symmetric", "asymmetric"] = "symmetric"
        """`asymmetric` stops half of its gradient as the published code does; for parity."""
        feature_dropout: Literal["row", "feature", "none"] = "row"
        """What is dropped before the student's projector: whole crops as the published code does,
        single features as its paper says, or nothing."""
        dropout_probability: Annotated[float, Field(ge=0, lt=1)] = 0.2
        """How much of it."""

    def __init__(self, config: Config, encoder: Encoder) -> None:
        super().__init__()
        self.config, self.encoder, self.views = config, encoder, config.views
        self.student = BatchNormMLP(encoder.embed_dim, config.hidden_dim, config.projection_dim)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)

    def loss(self, batch: Batch, *, progress: float) -> LossOutput:
        labels_BNK = batch.geometry["position_labels_BNK"]
        random_BCIJK, base_BCIJK = batch.views_BCIJK
        embedding_ND = self.encoder.embed(torch.cat([random_BCIJK, base_BCIJK]))
        student = self._split(self.student(self._drop(embedding_ND)), labels_BNK)
        with torch.no_grad():
            teacher = self._split(self.teacher(embedding_ND), labels_BNK)
        asymmetric = self.config.regulariser == "asymmetric"
        parts = losses.large_scale(student, teacher, labels_BNK, asymmetric=asymmetric)
        return LossOutput(
            total=torch.stack(list(parts.values())).sum(),
            parts=parts,
            scores=_scores(teacher, labels_BNK),
            z_ND=teacher.base_BKD.flatten(0, 1),
        )

    def before_step(self, *, progress: float) -> None:
        ema_update(self.teacher, self.student, self.config.momentum)

    def constant_loss(self, batch: Batch) -> dict[str, float]:
        return {"intra": losses.best_constant_intra(batch.geometry["position_labels_BNK"])}

    def _drop(self, embedding_ND: Tensor) -> Tensor:
        if not self.training or self.config.feature_dropout == "none":
            return embedding_ND
        drop = row_dropout if self.config.feature_dropout == "row" else F.dropout
        return drop(embedding_ND, self.config.dropout_probability)

    @staticmethod
    def _split(z_ND: Tensor, labels_BNK: Tensor) -> losses.Projections:
        """Undo the concatenation of random and base crops; rows are ordered volume by volume."""
        volumes, crops, bases = labels_BNK.shape
        random_ND, base_ND = z_ND[: volumes * crops], z_ND[volumes * crops :]
        return losses.Projections(
            random_ND.view(volumes, crops, -1), base_ND.view(volumes, bases, -1)
        )


@torch.no_grad()
def _scores(z: losses.Projections, labels_BNK: Tensor) -> dict[str, Tensor]:
    """How often the nearest base crop is the right one, and how alike base crops look."""
    similarity_BNK = F.normalize(z.random_BND, dim=-1) @ F.normalize(z.base_BKD, dim=-1).mT
    guess_BN1 = similarity_BNK.argmax(2, keepdim=True)
    right_BN = labels_BNK.gather(2, guess_BN1)[..., 0] == labels_BNK.amax(2)
    base_BKD = F.normalize(z.base_BKD, dim=-1)
    cosine_BKK = base_BKD @ base_BKD.mT
    off_diagonal = ~torch.eye(cosine_BKK.shape[1], dtype=torch.bool, device=cosine_BKK.device)
    return {
        "nearest_base_accuracy": right_BN.float().mean(),
        "base_cosine": cosine_BKK[:, off_diagonal].mean(),
    }
