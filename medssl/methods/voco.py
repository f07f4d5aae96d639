"""VoCo: tell from a crop alone where in its volume it was cut.

Three different methods carry the name, and ``variant`` chooses among them:

=============  =======================================================  ======================
variant        source                                                   teacher
=============  =======================================================  ======================
paper          Wu et al., CVPR 2024, arXiv:2402.17300                   none
released       the code published with it                               encoder and projector
large_scale    Wu et al., TPAMI 2025, arXiv:2410.09890, and its code    the projector alone
=============  =======================================================  ======================

The objectives are in ``medssl.losses.voco``. In each, one pass of one encoder embeds random and
base crops together, and so does one pass of the projector: its BatchNorm sees all crops of the
batch, also those of other processes.
"""

import copy
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from medssl.data.grid_views import GridViews
from medssl.data.views import Batch
from medssl.losses import voco as losses
from medssl.losses.gather import from_first, gather_rows
from medssl.methods.base import LossOutput, Method
from medssl.models.chunked import check_rows_apart, in_chunks
from medssl.models.ema import ema_update
from medssl.models.encoders.base import Encoder
from medssl.models.heads import BatchNormMLP, row_dropout

Width = Annotated[int, Field(gt=0)]
_PUBLISHED_WIDTH: dict[losses.Variant, int] = {"paper": 2048, "released": 2048, "large_scale": 1024}


class PlacementConfig(Method.Config):
    """The options of ``Placement``."""

    views: GridViews = GridViews()
    """The grid of base crops and the random crops cut over it."""
    variant: losses.Variant = "large_scale"
    """`paper` has no teacher, `released` a slow copy of encoder and projector, `large_scale` a
    slow copy of the projector and a term over pairs of volumes."""
    hidden_dim: Width | None = None
    """Width of the projector's hidden layers; null: as published for the variant, 2048, or
    1024 for `large_scale`."""
    projection_dim: Width | None = None
    """Length of the vectors the loss compares; null: as published, which is the same."""
    momentum: Annotated[float, Field(ge=0, le=1)] = 0.9
    """How much of the teacher survives each optimiser step."""
    teacher_start: Literal["student", "independent"] = "student"
    """`independent` gives the teacher first weights of its own, as the released code does."""
    regulariser: Literal["symmetric", "asymmetric"] = "symmetric"
    """`asymmetric` stops half of its gradient as the published code does; for parity."""
    feature_dropout: Literal["row", "feature", "none"] | None = None
    """What is dropped before the student's projector: whole crops as the published code of
    `large_scale` does, single features as its paper says, or nothing; null: whole crops for
    `large_scale`, nothing for the others."""
    dropout_probability: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """How much of it."""
    terms: losses.Terms = losses.PUBLISHED
    """What each part of the loss counts."""

    @model_validator(mode="after")
    def _crops_differ(self) -> Self:
        if self.views.base_crops < 2:  # noqa: PLR2004 - two that differ
            raise ValueError(
                "views.grid has one cell, which every crop lies in: choose two cells at least"
            )
        return self

    @property
    def widths(self) -> tuple[int, int]:
        """Hidden and output width of the projector."""
        published = _PUBLISHED_WIDTH[self.variant]
        return self.hidden_dim or published, self.projection_dim or published

    @property
    def dropped(self) -> Literal["row", "feature", "none"]:
        """What is dropped before the student's projector."""
        return self.feature_dropout or ("row" if self.variant == "large_scale" else "none")


class VoCo(Method):
    """Predict how much each random crop overlaps each crop of a grid."""

    class Config(PlacementConfig):
        crops_at_once: Annotated[int, Field(gt=0)] | None = None
        """So many crops go through the encoder at a time, and once more for their gradient, which
        stays that of all; null: all of them, which is faster and takes more memory."""

        @property
        def to_hold_less(self) -> tuple[str, ...]:
            return () if self.crops_at_once else ("crops_at_once=1",)

    def __init__(self, config: Config, encoder: Encoder) -> None:
        super().__init__()
        self.config, self.encoder, self.views = config, encoder, config.views
        if config.crops_at_once:
            check_rows_apart(encoder, "method.crops_at_once")
        self.placement = Placement(config, encoder)

    def loss(self, batch: Batch, *, progress: float) -> LossOutput:
        x_BCIJK, at_once = torch.cat(batch.views_BCIJK), self.config.crops_at_once
        embedding_ND = in_chunks(self.encoder.embed, x_BCIJK, chunk_rows=at_once)
        return self.placement.loss(batch, embedding_ND, at_once=at_once)

    def before_step(self, *, progress: float) -> None:
        self.placement.follow(self.encoder)

    def constant_loss(self, batch: Batch) -> dict[str, float]:
        return self.placement.constant_loss(batch)


class Placement(nn.Module):
    """Projector, teacher and objective: from the embeddings of crops to the loss of a variant."""

    def __init__(self, config: PlacementConfig, encoder: Encoder) -> None:
        super().__init__()
        self.config = config
        self.student = BatchNormMLP(encoder.embed_dim, *config.widths)
        self.teacher: BatchNormMLP | None = None
        self.teacher_encoder: Encoder | None = None
        independent = config.teacher_start == "independent"
        if config.variant != "paper":
            self.teacher = (
                BatchNormMLP(encoder.embed_dim, *config.widths)
                if independent
                else copy.deepcopy(self.student)
            ).requires_grad_(False)
        if config.variant == "released":
            other: Encoder = _another(encoder) if independent else copy.deepcopy(encoder)
            self.teacher_encoder = other.requires_grad_(False)

    def loss(self, batch: Batch, embedding_ND: Tensor, *, at_once: int | None = None) -> LossOutput:
        """Return the loss of a batch of all processes.

        Everything behind the encoder is in float32, also under mixed precision: overlaps close to
        1 stand inside logarithms.

        Args:
            batch: Random and base crops, and their ``position_labels_BNK``.
            embedding_ND: Their embeddings: of all random crops, then of all base crops.
            at_once: Crops that go through the teacher's encoder at a time; None for all.
        """
        labels_BNK = gather_rows(batch.geometry["position_labels_BNK"])
        embedding_ND = _gathered(embedding_ND, batch)
        taught_ND = self._teacher_embedding(batch, embedding_ND, at_once)
        with torch.autocast(embedding_ND.device.type, enabled=False):
            student = _split(self.student(self._drop(embedding_ND)), labels_BNK)
            teacher = self._teach(taught_ND, labels_BNK)
            parts = self._parts(student, teacher, labels_BNK)
        steady = (student if teacher is None else teacher).detach()
        return LossOutput(
            total=torch.stack(list(parts.values())).sum(),
            parts=parts,
            scores=_scores(steady, labels_BNK),
            z_ND=steady.base_BKD.flatten(0, 1),
        )

    def follow(self, encoder: Encoder) -> None:
        """Move the teacher towards the student, as it is before the optimiser's next step."""
        if self.teacher is not None:
            ema_update(self.teacher, self.student, self.config.momentum)
        if self.teacher_encoder is not None:
            ema_update(self.teacher_encoder, encoder, self.config.momentum)

    def constant_loss(self, batch: Batch) -> dict[str, float]:
        """Return what the best single number for every overlap reaches; a bound of 0 is none."""
        labels_BNK = gather_rows(batch.geometry["position_labels_BNK"])
        bounds = losses.best_constant(self.config.variant, labels_BNK, self.config.terms)
        return {part: bound for part, bound in bounds.items() if bound > 0}

    @torch.no_grad()
    def _teacher_embedding(self, batch: Batch, embedding_ND: Tensor, at_once: int | None) -> Tensor:
        """Return what the teacher's projector is given: the student's own, but for `released`."""
        if self.teacher_encoder is None:
            return embedding_ND
        x_BCIJK = torch.cat(batch.views_BCIJK)
        return _gathered(in_chunks(self.teacher_encoder.embed, x_BCIJK, chunk_rows=at_once), batch)

    @torch.no_grad()
    def _teach(self, embedding_ND: Tensor, labels_BNK: Tensor) -> losses.Projections | None:
        return None if self.teacher is None else _split(self.teacher(embedding_ND), labels_BNK)

    def _parts(
        self, student: losses.Projections, teacher: losses.Projections | None, labels_BNK: Tensor
    ) -> dict[str, Tensor]:
        asymmetric, terms = self.config.regulariser == "asymmetric", self.config.terms
        if teacher is None:
            return losses.paper(student, labels_BNK, asymmetric=asymmetric, terms=terms)
        objective = losses.released if self.config.variant == "released" else losses.large_scale
        return objective(student, teacher, labels_BNK, asymmetric=asymmetric, terms=terms)

    def _drop(self, embedding_ND: Tensor) -> Tensor:
        if not self.training or self.config.dropped == "none":
            return embedding_ND
        drop = row_dropout if self.config.dropped == "row" else F.dropout
        kept_ND = drop(torch.ones_like(embedding_ND), self.config.dropout_probability)
        return embedding_ND * from_first(kept_ND)


def _another(encoder: Encoder) -> Encoder:
    """Return an encoder of the same kind with first weights of its own."""
    config: Encoder.Config = encoder.config  # type: ignore[assignment]
    other: Encoder = config.build()
    return other


def _gathered(embedding_ND: Tensor, batch: Batch) -> Tensor:
    """Return the embeddings of all processes, float32 or better: random crops, then base crops."""
    count = len(batch.views_BCIJK[0])
    embedding_ND = embedding_ND.to(torch.promote_types(embedding_ND.dtype, torch.float32))
    return torch.cat([gather_rows(embedding_ND[:count]), gather_rows(embedding_ND[count:])])


def _split(z_ND: Tensor, labels_BNK: Tensor) -> losses.Projections:
    """Undo the concatenation of random and base crops; rows are ordered volume by volume."""
    volumes, crops, bases = labels_BNK.shape
    random_ND, base_ND = z_ND[: volumes * crops], z_ND[volumes * crops :]
    return losses.Projections(random_ND.view(volumes, crops, -1), base_ND.view(volumes, bases, -1))


@torch.no_grad()
def _scores(z: losses.Projections, labels_BNK: Tensor) -> dict[str, Tensor]:
    """How often the nearest base crop is the right one, and how alike pairs of crops look.

    Positive pairs are a random and a base crop that overlap, negative ones those of one volume
    that do not.
    """
    base_BKD = F.normalize(z.base_BKD, dim=-1)
    cosine_BNK = F.normalize(z.random_BND, dim=-1) @ base_BKD.mT
    guess_BN1 = cosine_BNK.argmax(2, keepdim=True)
    right_BN = labels_BNK.gather(2, guess_BN1)[..., 0] == labels_BNK.amax(2)
    cosine_BKK = base_BKD @ base_BKD.mT
    off_diagonal = ~torch.eye(cosine_BKK.shape[1], dtype=torch.bool, device=cosine_BKK.device)
    overlap = labels_BNK > 0
    return {
        "nearest_base_accuracy": right_BN.float().mean(),
        "base_cosine": cosine_BKK[:, off_diagonal].mean(),
        "positive_cosine": _mean_where(overlap, cosine_BNK),
        "negative_cosine": _mean_where(~overlap, cosine_BNK),
    }


def _mean_where(mask: Tensor, values: Tensor) -> Tensor:
    """Return the mean of the masked values, without waiting for a GPU; 0 when there are none."""
    return (values * mask).sum() / mask.sum().clamp_min(1)
