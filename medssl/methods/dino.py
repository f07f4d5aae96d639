"""Teacher and student on global and local crops, with hidden tokens to be told.

DINO (Caron et al. 2021, arXiv:2104.14294) and iBOT (Zhou et al. 2022, arXiv:2111.07832), joined as
in DINOv2 (Oquab et al. 2024, arXiv:2304.07193), in three dimensions.
"""

import copy
import math
from typing import Annotated, Literal, NamedTuple, Self, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from medssl.data.augment import Probability
from medssl.data.crop_views import CropViews
from medssl.data.masked_views import MaskedViews
from medssl.data.masking import MaskConfig
from medssl.data.views import Batch
from medssl.errors import ConfigError
from medssl.losses import dino as losses
from medssl.losses.gather import gather_rows
from medssl.methods.base import LossOutput, Method
from medssl.models.ema import ema_update
from medssl.models.encoders.base import Encoder, upsampled
from medssl.models.prototypes import Centre, PrototypeHead

Positive = Annotated[int, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Temperature = Annotated[float, Field(gt=0)]
CROPS = CropViews(
    crop_voxels=48, spread=1.5, zoom=(0.7, 1.5), local_crops=4, local_voxels=24, local_zoom=(0.7, 2)
)
BLOCKS = MaskConfig(ratio=(0.1, 0.5), probability=0.5, shape="blocks")


class Seen(NamedTuple):
    """What one network makes of the crops: of whole crops, and of hidden tokens."""

    z_BVD: Tensor
    """Unit vectors of every crop."""
    logits_BVP: Tensor
    token_logits_TP: Tensor
    """No row where nothing is hidden."""


class DINO(Method):
    """Tell from one crop, or a part of it, what a slow copy of the network sees in another."""

    class Config(Method.Config):
        views: MaskedViews = MaskedViews(crops=CROPS, mask=BLOCKS)
        """Global crops, a part of which is hidden, and small local ones."""
        hidden_dim: Positive = 2048
        """Width of the heads' hidden layers."""
        bottleneck_dim: Positive = 256
        """Length of the unit vectors that are compared with the prototypes."""
        head_layers: Positive = 3
        """Linear layers of a head before its prototypes."""
        head_batch_norm: bool = True
        """Normalise the hidden layers of the head of crops over the batch: without it, crops that
        look alike at first may never come apart in small batches. Tokens, of which a batch has
        many, do without."""
        prototypes: Annotated[int, Field(gt=1)] = 4096
        """Of the crops, and as many again of the tokens."""
        dino_weight: Weight = 1.0
        """Of the loss between crops."""
        ibot_weight: Weight = 1.0
        """Of the loss of hidden tokens, the cells of the coarsest map; 0 hides nothing."""
        koleo_weight: Weight = 0.1
        """Of the term that keeps the embeddings of volumes apart."""
        koleo_eps: Annotated[float, Field(gt=0)] = 1e-8
        """Added to its distances."""
        student_temperature: Temperature = 0.1
        """Of the student's softmax."""
        teacher_temperature: Temperature = 0.07
        """Of the teacher's assignments, which are sharper."""
        teacher_temperature_start: Temperature = 0.04
        """What it begins with."""
        teacher_warmup: Probability = 0.3
        """Share of the training over which it rises."""
        centering: Literal["sinkhorn", "softmax"] = "sinkhorn"
        """What keeps the teacher from naming one prototype only: equal use of all within a batch,
        or a slow mean that is subtracted."""
        sinkhorn_iterations: Positive = 3
        """Of `sinkhorn`."""
        centre_momentum: Probability = 0.9
        """Of `softmax`: how much of the mean survives a step."""
        momentum: Probability = 0.992
        """How much of the teacher survives the first step."""
        momentum_end: Probability = 1.0
        """What it nears at the end; on the way half a cosine."""
        keep: Literal["teacher", "student"] = "teacher"
        """Whose encoder the training leaves; published is the teacher's."""

        @classmethod
        def tiny(cls) -> Self:
            crops = CropViews(crop_voxels=8, spread=1.5, local_crops=2, local_voxels=4)
            mask = MaskConfig(cell_voxels=2, ratio=(0.3, 0.5), shape="blocks")
            views = MaskedViews(crops=crops, mask=mask)
            return cls(views=views, hidden_dim=32, bottleneck_dim=16, prototypes=32)

    def __init__(self, config: Config, encoder: Encoder) -> None:
        super().__init__()
        self.config, self.encoder, self.views = config, encoder, config.views
        _check(config, encoder)
        inputs = {"crops": encoder.embed_dim}
        if config.ibot_weight:
            inputs["tokens"] = encoder.channels[-1]
        self.heads = nn.ModuleDict({kind: _head(config, kind, dim) for kind, dim in inputs.items()})
        self.teacher = nn.ModuleDict(
            {"encoder": copy.deepcopy(encoder), "heads": copy.deepcopy(self.heads)}
        ).requires_grad_(False)
        kinds = inputs if config.centering == "softmax" else {}
        self.centres = nn.ModuleDict({kind: Centre(config.prototypes) for kind in kinds})

    def train(self, mode: bool = True) -> Self:
        """Switch the student; the teacher never drops anything."""
        super().train(mode)
        self.teacher.eval()
        return self

    def loss(self, batch: Batch, *, progress: float) -> LossOutput:
        config = self.config
        hidden_RT = self._hidden(batch)
        with torch.no_grad():
            teacher = self._teacher(batch, hidden_RT)
        embedding_BGE, student = self._student(batch, hidden_RT)
        assigned_BGP = self._assign("crops", teacher.logits_BVP.flatten(0, 1), progress)
        assigned_BGP = assigned_BGP.view_as(teacher.logits_BVP)
        per_volume_B = losses.across_views(
            assigned_BGP, student.logits_BVP, config.student_temperature
        )
        parts = {"dino": gather_rows(per_volume_B).mean()}
        if hidden_RT is not None:
            parts["ibot"] = losses.hidden_tokens(
                self._assign("tokens", teacher.token_logits_TP, progress),
                student.token_logits_TP,
                hidden_RT,
                config.student_temperature,
            )
        if config.koleo_weight:
            precise = torch.promote_types(embedding_BGE.dtype, torch.float32)
            of_crop = gather_rows(embedding_BGE.to(precise)).unbind(1)
            parts["koleo"] = torch.stack(
                [losses.koleo(z, config.koleo_eps) for z in of_crop]
            ).mean()
        weights = {name: getattr(config, f"{name}_weight") for name in parts}
        return LossOutput(
            total=torch.stack([weights[name] * part for name, part in parts.items()]).sum(),
            parts=parts,
            scores=_scores(teacher.z_BVD, student.z_BVD, assigned_BGP),
            z_ND=student.z_BVD.flatten(0, 1),
        )

    def before_step(self, *, progress: float) -> None:
        config = self.config
        cosine = (1 + math.cos(math.pi * progress)) / 2
        momentum = config.momentum_end - (config.momentum_end - config.momentum) * cosine
        ema_update(self.teacher["encoder"], self.encoder, momentum)
        ema_update(self.teacher["heads"], self.heads, momentum)
        for centre in self.centres.values():
            cast(Centre, centre).step(config.centre_momentum)

    @property
    def kept_encoder(self) -> Encoder:
        kept = self.encoder if self.config.keep == "student" else self.teacher["encoder"]
        return cast(Encoder, kept)

    def constant_loss(self, batch: Batch) -> dict[str, float]:
        """Return the entropy of even assignments: where all crops look the same to the teacher."""
        names = ["dino", "ibot"] if self.config.ibot_weight else ["dino"]
        return dict.fromkeys(names, math.log(self.config.prototypes))

    def _hidden(self, batch: Batch) -> Tensor | None:
        """Return which cells of the coarsest map each global crop hides, ``(rows, cells)``."""
        if not self.config.ibot_weight:
            return None
        visible_RIJK = batch.geometry["visible_0_BNIJK"].flatten(0, 1)
        shape = batch.views_BCIJK[0].shape[2:]
        grid = [size // self.encoder.strides[-1] for size in shape]
        cells = batch.views_BCIJK[0].new_empty(1, 1, *grid)
        return upsampled(visible_RIJK, cells).flatten(1) == 0

    def _teacher(self, batch: Batch, hidden_RT: Tensor | None) -> Seen:
        encoder = cast(Encoder, self.teacher["encoder"])
        heads = cast(nn.ModuleDict, self.teacher["heads"])
        maps = encoder.features(batch.views_BCIJK[0])
        z_RD, logits_RP = heads["crops"](encoder.pool(maps))
        crops = self.config.views.crops.crops
        z_BGD, logits_BGP = (x.view(len(x) // crops, crops, -1) for x in (z_RD, logits_RP))
        return Seen(z_BGD, logits_BGP, _token_logits(heads, maps[-1], hidden_RT))

    def _student(self, batch: Batch, hidden_RT: Tensor | None) -> tuple[Tensor, Seen]:
        """Return the embeddings of the global crops, ``(B, G, E)``, and what the heads say."""
        x_BCIJK, *local = batch.views_BCIJK
        if hidden_RT is None:
            maps = self.encoder.features(x_BCIJK)
        else:
            visible_RIJK = batch.geometry["visible_0_BNIJK"].flatten(0, 1)
            maps = self.encoder.masked_features(x_BCIJK, visible_RIJK)
        volumes = len(x_BCIJK) // self.config.views.crops.crops
        embedding_BGE = self.encoder.pool(maps).view(volumes, -1, self.encoder.embed_dim)
        kinds = [self.encoder.embed(x).view(volumes, -1, self.encoder.embed_dim) for x in local]
        embedding_BVE = torch.cat([embedding_BGE, *kinds], dim=1)
        z_ND, logits_NP = self.heads["crops"](embedding_BVE.flatten(0, 1))
        z_BVD, logits_BVP = (x.view(*embedding_BVE.shape[:2], -1) for x in (z_ND, logits_NP))
        return embedding_BGE, Seen(
            z_BVD, logits_BVP, _token_logits(self.heads, maps[-1], hidden_RT)
        )

    def _assign(self, kind: str, logits_NP: Tensor, progress: float) -> Tensor:
        """Return which prototypes the teacher names, and let the centre take note."""
        config = self.config
        risen = min(progress / config.teacher_warmup, 1) if config.teacher_warmup else 1
        start, end = config.teacher_temperature_start, config.teacher_temperature
        temperature = start + (end - start) * risen
        if config.centering == "sinkhorn":
            return losses.sinkhorn(logits_NP, temperature, iterations=config.sinkhorn_iterations)
        centre = cast(Centre, self.centres[kind])
        if self.training:
            centre.add(*losses.total_of(logits_NP))
        return losses.centred(logits_NP, temperature, centre.value_P)


def _head(config: DINO.Config, kind: str, in_dim: int) -> PrototypeHead:
    return PrototypeHead(
        in_dim,
        config.hidden_dim,
        config.bottleneck_dim,
        config.prototypes,
        layers=config.head_layers,
        batch_norm=config.head_batch_norm and kind == "crops",
    )


def _token_logits(heads: nn.ModuleDict, map_RCIJK: Tensor, hidden_RT: Tensor | None) -> Tensor:
    """Return the logits of the hidden cells of all rows, ``(T, P)``; none where none is asked."""
    if hidden_RT is None:
        return map_RCIJK.new_empty(0, 0)
    tokens_TC = map_RCIJK.flatten(2).transpose(1, 2)[hidden_RT]
    return cast(Tensor, heads["tokens"](tokens_TC)[1])


def _check(config: DINO.Config, encoder: Encoder) -> None:
    """Raise ConfigError unless there are crops to compare, and cells that can be hidden."""
    crops, cell = config.views.crops, config.views.mask.cell_voxels
    if crops.crops + crops.local_crops < 2:  # noqa: PLR2004
        raise ConfigError(
            "method.views.crops cuts one crop of a volume, and there is none to compare it with",
            hint="set crops to 2, or local_crops to 1, at least",
        )
    if config.ibot_weight and not config.views.most_hidden:
        raise ConfigError(
            "method.views.mask never hides a cell, and method.ibot_weight asks for hidden ones",
            hint="hide more (ratio, probability), or set method.ibot_weight to 0",
        )
    if config.ibot_weight and cell % encoder.strides[-1]:
        raise ConfigError(
            f"method.views.mask.cell_voxels is {cell}, but one voxel of the encoder's coarsest map "
            f"spans {encoder.strides[-1]}",
            hint=f"make it a multiple of {encoder.strides[-1]}, or set method.ibot_weight to 0",
        )


@torch.no_grad()
def _scores(teacher_BGD: Tensor, student_BVD: Tensor, assigned_BGP: Tensor) -> dict[str, Tensor]:
    """How alike crops of one volume and of others look, and how undecided the teacher is."""
    with torch.autocast(teacher_BGD.device.type, enabled=False):  # unit vectors of float32
        cosine_BBGV = torch.einsum("bgd,cvd->bcgv", teacher_BGD, student_BVD)
    volumes, _, views, others = cosine_BBGV.shape
    other = ~torch.eye(views, others, dtype=torch.bool, device=cosine_BBGV.device)
    same = torch.eye(volumes, dtype=torch.bool, device=cosine_BBGV.device)
    scores = {
        "positive_cosine": cosine_BBGV[same][:, other].mean(),
        "teacher_entropy": torch.special.entr(assigned_BGP).sum(-1).mean(),
    }
    if volumes > 1:
        scores["negative_cosine"] = cosine_BBGV[~same].mean()
    return scores
