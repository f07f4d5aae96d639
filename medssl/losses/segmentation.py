"""Losses between logits and a label map, also where only a part of it is known.

The overlap terms are MONAI's. All losses share three ways to read a label map: classes that
exclude each other (softmax), regions that may overlap (sigmoid, each a set of labels, as in
nnU-Net), and classes of which a case has only some annotated.

Suffixes: B cases, C classes or regions, IJK voxels (or IJ).
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal, NamedTuple, Self

import torch
from monai.losses import DiceLoss, FocalLoss, TverskyLoss
from monai.networks.utils import one_hot
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from medssl.config.base import Config
from medssl.losses.ntxent import NEVER

Weight = Annotated[float, Field(ge=0)]
_DICE, _TVERSKY = ("dice_ce", "dice_focal"), ("tversky", "focal_tversky")
_OWN_OPTIONS = {
    "overlap_weight": _DICE,
    "voxel_weight": _DICE,
    "focal_gamma": ("dice_focal",),
    "false_positives": _TVERSKY,
    "false_negatives": _TVERSKY,
    "tversky_gamma": ("focal_tversky",),
}


class SegmentationLossConfig(Config):
    """What a segmentation is compared with its labels by."""

    name: Literal["dice_ce", "dice_focal", "tversky", "focal_tversky"] = "dice_ce"
    """`dice_ce`: soft Dice and cross-entropy (Isensee et al. 2021). `dice_focal`: soft Dice and
    a cross-entropy that looks at what is wrong (Lin et al. 2017, arXiv:1708.02002). `tversky`:
    Dice in which misses and false alarms count differently (Salehi et al. 2017,
    arXiv:1706.05721). `focal_tversky`: the same, with the classes that do badly counting more
    (Abraham & Khan 2019, arXiv:1810.07842)."""
    overlap_weight: Weight = 1.0
    """dice_ce, dice_focal: weight of the Dice part."""
    voxel_weight: Weight = 1.0
    """dice_ce, dice_focal: weight of the part that is a mean over voxels."""
    over_batch: bool = True
    """Pool the voxels of a batch before dividing: steadier when a patch lacks a class."""
    focal_gamma: Weight = 2.0
    """dice_focal: how little voxels that are right already count; 0 is cross-entropy."""
    false_positives: Weight = 0.3
    """tversky, focal_tversky: weight of false alarms; 0.5 and 0.5 is Dice."""
    false_negatives: Weight = 0.7
    """tversky, focal_tversky: weight of misses."""
    tversky_gamma: Annotated[float, Field(ge=1, le=3)] = 4 / 3
    """focal_tversky: the loss of each class is raised to one over this."""

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        fields = type(self).model_fields
        strange = [
            option
            for option, names in _OWN_OPTIONS.items()
            if self.name not in names and getattr(self, option) != fields[option].default
        ]
        if strange:
            raise ValueError(f"{self.name} has no {', '.join(strange)}: leave it out")
        return self


class SegmentationLoss:
    """A loss that is told once what the labels mean.

    Args:
        config: Which.
        regions: Labels that make up each region, where channels are regions; without, channels
            are the labels 0, 1, ... and 0 is the background.
        ignore_label: Voxels of this label count nowhere.

    Raises:
        ValueError: A region is empty, or holds the label to ignore.
    """

    def __init__(
        self,
        config: SegmentationLossConfig,
        *,
        regions: Sequence[Sequence[int]] | None = None,
        ignore_label: int | None = None,
    ) -> None:
        if regions is not None and not all(regions):
            raise ValueError("a region needs one label or more")
        if regions is not None and any(ignore_label in region for region in regions):
            raise ValueError(f"label {ignore_label} is to be ignored and cannot be in a region")
        self.config, self.regions, self.ignore_label = config, regions, ignore_label

    def __call__(
        self, logits_BCIJK: Tensor, target_B1IJK: Tensor, annotated_BC: Tensor | None = None
    ) -> Tensor:
        """Return the loss, 0 with gradient 0 where nothing is left to compare.

        Args:
            logits_BCIJK: Of the network.
            target_B1IJK: Labels, of any number type.
            annotated_BC: Boolean, of channels: which are annotated in each case. Classes that
                are not are merged into the background, in what is predicted and in the target
                (marginal loss, Shi et al. 2021, arXiv:2007.03868, sec. 3.1); regions that are
                not do not count. The background always is.
        """
        logits_BCIJK = logits_BCIJK.to(torch.promote_types(logits_BCIJK.dtype, torch.float32))
        compared = self._compared(logits_BCIJK, target_B1IJK.long(), annotated_BC)
        overlap, config = overlap_loss(compared, self.config), self.config
        if config.name in _TVERSKY:
            return overlap
        gamma = config.focal_gamma if config.name == "dice_focal" else None
        voxels = voxel_loss(compared, gamma)
        return config.overlap_weight * overlap + config.voxel_weight * voxels

    def _compared(
        self, logits_BCIJK: Tensor, target_B1IJK: Tensor, annotated_BC: Tensor | None
    ) -> "Compared":
        kept_B1IJK = None
        if self.ignore_label is not None:
            kept_B1IJK = target_B1IJK != self.ignore_label
            target_B1IJK = target_B1IJK.where(kept_B1IJK, 0)
        if annotated_BC is None:
            annotated_BC = logits_BCIJK.new_ones(logits_BCIJK.shape[:2], dtype=torch.bool)
        elif self.regions is None:
            logits_BCIJK, target_B1IJK = merged(logits_BCIJK, target_B1IJK, annotated_BC)
        return Compared(logits_BCIJK, target_B1IJK, self.regions, annotated_BC, kept_B1IJK)


class Compared(NamedTuple):
    """Logits, and what is known of the labels."""

    logits_BCIJK: Tensor
    target_B1IJK: Tensor
    regions: Sequence[Sequence[int]] | None
    annotated_BC: Tensor
    kept_B1IJK: Tensor | None
    """Which voxels count; None for all."""

    def truth(self) -> Tensor:
        """Return the membership of every voxel in every channel, BCIJK, as 0 and 1."""
        logits_BCIJK = self.logits_BCIJK
        if self.regions is None:
            return one_hot(self.target_B1IJK, logits_BCIJK.shape[1], dtype=logits_BCIJK.dtype)
        inside = [
            torch.isin(self.target_B1IJK, _labels(r, self.target_B1IJK)) for r in self.regions
        ]
        return torch.cat(inside, dim=1).to(self.logits_BCIJK.dtype)

    def counted(self) -> Tensor:
        """Return which voxels count for which channel, as 0 and 1, to be broadcast to BCIJK."""
        counted = _beside(self.annotated_BC, self.logits_BCIJK)
        counted = counted if self.kept_B1IJK is None else counted & self.kept_B1IJK
        return counted.to(self.logits_BCIJK.dtype)


def merged(
    logits_BCIJK: Tensor, target_B1IJK: Tensor, annotated_BC: Tensor
) -> tuple[Tensor, Tensor]:
    """Merge classes that are not annotated into the background, channel and label 0.

    Their probabilities are added to its own, so its logit is the log of a sum of exponentials.

    Args:
        logits_BCIJK: Of classes that exclude each other.
        target_B1IJK: Labels below C.
        annotated_BC: Which classes are annotated; what it says of the background is not read.
    """
    left_out_BC = ~annotated_BC
    left_out_BC = torch.cat([torch.zeros_like(left_out_BC[:, :1]), left_out_BC[:, 1:]], dim=1)
    drop_BCIJK = _beside(left_out_BC, logits_BCIJK)
    into_BCIJK = drop_BCIJK.index_fill(
        1, torch.zeros(1, dtype=torch.long, device=drop_BCIJK.device), 1
    )
    background_B1IJK = logits_BCIJK.masked_fill(~into_BCIJK, NEVER).logsumexp(1, keepdim=True)
    others_BCIJK = logits_BCIJK[:, 1:].masked_fill(drop_BCIJK[:, 1:], NEVER)
    unknown_BV = left_out_BC.gather(1, target_B1IJK.flatten(1))
    target_B1IJK = target_B1IJK.masked_fill(unknown_BV.view_as(target_B1IJK), 0)
    return torch.cat([background_B1IJK, others_BCIJK], dim=1), target_B1IJK


def overlap_loss(compared: Compared, config: SegmentationLossConfig) -> Tensor:
    """Return the mean Dice or Tversky loss of the channels that are annotated.

    Of classes that exclude each other the background is left out: it is most of every patch, its
    Dice is near 1 and would only dilute the mean. With a batch pooled, a channel counts if a case
    has it annotated.
    """
    regions = compared.regions is not None
    logits_BCIJK, counted_BCIJK = compared.logits_BCIJK, compared.counted()
    p_BCIJK = (logits_BCIJK.sigmoid() if regions else logits_BCIJK.softmax(1)) * counted_BCIJK
    truth_BCIJK, first = compared.truth() * counted_BCIJK, 0 if regions else 1
    counts_BC = compared.annotated_BC[:, first:]
    counts_XC = counts_BC.any(0, keepdim=True) if config.over_batch else counts_BC
    loss = _overlap(config)(p_BCIJK[:, first:], truth_BCIJK[:, first:])
    loss_XC = loss.reshape(counts_XC.shape)
    if config.name == "focal_tversky":  # not from 0, where its slope has no bound
        loss_XC = loss_XC.clamp_min(1e-6) ** (1 / config.tversky_gamma)
    return _mean_over(loss_XC, counts_XC)


def _overlap(config: SegmentationLossConfig) -> Callable[[Tensor, Tensor], Tensor]:
    if config.name in _DICE:
        return DiceLoss(batch=config.over_batch, reduction="none")
    return TverskyLoss(
        alpha=config.false_positives,
        beta=config.false_negatives,
        batch=config.over_batch,
        reduction="none",
    )


def voxel_loss(compared: Compared, gamma: float | None) -> Tensor:
    """Return the mean cross-entropy of the voxels that count, binary for regions.

    Args:
        compared: Logits and labels.
        gamma: With it, focal: every term is multiplied by ``(1 - p)^gamma``, where p is the
            probability of what is right; the mean is over voxels, not over channels of one.
    """
    logits_BCIJK, regions = compared.logits_BCIJK, compared.regions is not None
    if gamma is not None:
        focal = FocalLoss(gamma=gamma, use_softmax=not regions, reduction="none")
        terms_BCIJK = focal(logits_BCIJK, compared.truth())
    elif regions:
        terms_BCIJK = F.binary_cross_entropy_with_logits(
            logits_BCIJK, compared.truth(), reduction="none"
        )
    else:
        labels_BIJK = compared.target_B1IJK[:, 0]
        terms_BCIJK = F.cross_entropy(logits_BCIJK, labels_BIJK, reduction="none")[:, None]
    if regions:
        return _mean_over(terms_BCIJK, compared.counted().expand_as(terms_BCIJK))
    terms_BIJK, kept = terms_BCIJK.sum(1), compared.kept_B1IJK
    return terms_BIJK.mean() if kept is None else _mean_over(terms_BIJK, kept[:, 0])


def deep_supervision(
    loss: Callable[[Tensor, Tensor], Tensor], logits: Sequence[Tensor], target_B1IJK: Tensor
) -> Tensor:
    """Return the loss of several resolutions, weighted 1, 1/2, 1/4, ... over their sum.

    Isensee et al. 2021 (nnU-Net), whose code leaves the coarsest one out: then do not pass it.

    Args:
        loss: Of one resolution.
        logits: ``(B, C, ...)`` each, finest first.
        target_B1IJK: Labels on the finest grid; coarser ones get the nearest label.
    """
    weights = [0.5**level for level in range(len(logits))]
    target_B1IJK = target_B1IJK.float()
    terms = [
        weight * loss(level, F.interpolate(target_B1IJK, level.shape[2:], mode="nearest-exact"))
        for weight, level in zip(weights, logits, strict=True)
    ]
    return torch.stack(terms).sum() / sum(weights)


def _labels(region: Sequence[int], like: Tensor) -> Tensor:
    return torch.tensor(tuple(region), dtype=like.dtype, device=like.device)


def _beside(values_BC: Tensor, x_BCIJK: Tensor) -> Tensor:
    return values_BC.reshape(*values_BC.shape, *[1] * (x_BCIJK.ndim - 2))


def _mean_over(terms: Tensor, counts: Tensor) -> Tensor:
    counts = counts.to(terms.dtype)
    return (terms * counts).sum() / counts.sum().clamp_min(1)
