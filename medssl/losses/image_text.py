"""Contrast of images with texts on one matrix of logits, ``scale * image . text + bias``.

InfoNCE of CLIP (Radford et al. 2021, arXiv:2103.00020), the same with several positives per row
(the targets of fVLM, arXiv:2501.14548), the sigmoid loss of SigLIP (Zhai et al. 2023,
arXiv:2303.15343), and the decoupled loss (Yeh et al. 2022, arXiv:2110.06848) between images and
texts. All take the same targets: pairs that are ignored leave every sum. All but SigLIP's are
means of both directions, image to text and text to image.

There may be more texts than images: text j belongs to image j, and texts beyond the images are
compared with, but never look for an image themselves. Embeddings have unit length; they are those
of the whole batch (:mod:`medssl.losses.gather`).

Suffixes: B images, M >= B texts, D features.
"""

from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from medssl.config.base import Config
from medssl.errors import InputError
from medssl.losses.ntxent import NEVER
from medssl.losses.pair_targets import PairTargets, negatives

Name = Literal["info_nce", "multi_positive", "siglip", "dcl"]


class ImageTextLoss(Config):
    """Which of the losses below, and its options."""

    name: Name = "multi_positive"
    """`multi_positive`: a softmax over the batch with all positives of a row as its targets;
    `info_nce`: with the row's own pair alone; `dcl`: the same without the positive in the sum;
    `siglip`: every pair for itself, for small batches."""
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the targets that goes evenly to all pairs; not for `dcl`."""
    intra: bool = False
    """For `dcl`: images are told from images too, and texts from texts."""

    @model_validator(mode="after")
    def _options_are_of_the_loss(self) -> Self:
        if self.smoothing and self.name == "dcl":
            raise ValueError("dcl has no targets to smooth: set smoothing to 0")
        if self.intra and self.name != "dcl":
            raise ValueError(f"intra is an option of dcl, and the loss is {self.name}")
        return self

    def of(
        self,
        image_BD: Tensor,
        text_MD: Tensor,
        targets: PairTargets,
        scale: Tensor | float,
        bias: Tensor | float | None = None,
    ) -> Tensor:
        """Return the loss, a scalar.

        Args:
            image_BD: Unit vectors.
            text_MD: Unit vectors.
            targets: Which pairs are positive, which are ignored.
            scale: Multiplies the cosines.
            bias: Added to the logits.

        Raises:
            InputError: As :func:`dcl`.
        """
        logits_BM = pair_logits(image_BD, text_MD, scale, bias)
        if not self.intra:
            return contrast(self, logits_BM, targets)
        texts_BD = text_MD[: len(image_BD)]
        images_BB = pair_logits(image_BD, image_BD, scale, bias)
        return dcl(
            logits_BM, targets, within=(images_BB, pair_logits(texts_BD, texts_BD, scale, bias))
        )

    def collapsed(self, targets: PairTargets) -> float:
        """Return the loss when all embeddings are equal: what blind encoders reach.

        With n pairs compared in a row it is the mean of ``log n`` for the losses with a softmax;
        for ``dcl`` n are the negatives, twice as many with ``intra``. For ``siglip`` it is the
        lowest that one logit everywhere can reach, the entropy of the share of positives.

        Raises:
            InputError: As :func:`dcl`.
        """
        weight_BM = targets.weight_BB.double()
        if self.name == "siglip":
            kept_BM = ~targets.ignored_BB
            wanted = weight_BM[kept_BM].mean() * (1 - self.smoothing) + self.smoothing / 2
            entropy = -(torch.xlogy(wanted, wanted) + torch.xlogy(1 - wanted, 1 - wanted))
            return float(entropy * kept_BM.sum() / len(weight_BM))
        equal_BM = torch.zeros_like(weight_BM)
        if not self.intra:
            return float(contrast(self, equal_BM, targets))
        equal_BB = equal_BM[:, : len(equal_BM)]
        return float(dcl(equal_BM, targets, within=(equal_BB, equal_BB)))


def contrast(loss: ImageTextLoss, logits_BM: Tensor, targets: PairTargets) -> Tensor:
    """Return a loss of logits that are already there; ``intra`` does not apply."""
    if loss.name == "dcl":
        return dcl(logits_BM, targets)
    of = {"info_nce": info_nce, "multi_positive": multi_positive, "siglip": siglip}[loss.name]
    return of(logits_BM, targets, smoothing=loss.smoothing)


def pair_logits(
    image_BD: Tensor,
    text_MD: Tensor,
    scale: Tensor | float,
    bias: Tensor | float | None = None,
) -> Tensor:
    """Return ``scale * image . text + bias``, ``(B, M)``, in float32 at least, also in autocast."""
    with torch.autocast(image_BD.device.type, enabled=False):
        dtype = torch.promote_types(image_BD.dtype, torch.float32)
        logits_BM = (scale * image_BD.to(dtype)) @ text_MD.to(dtype).mT
        return logits_BM if bias is None else logits_BM + bias


def info_nce(logits_BM: Tensor, targets: PairTargets, *, smoothing: float = 0.0) -> Tensor:
    """Return the mean of ``-log softmax`` at each row's own pair, both ways.

    Other pairs that are alike are not pulled together, but are no negatives either. With a policy
    that calls all of them negative it is the loss of CLIP.
    """
    return multi_positive(logits_BM, own_pairs(targets), smoothing=smoothing)


def own_pairs(targets: PairTargets) -> PairTargets:
    """Return targets whose only positives are on the diagonal; other positives are ignored."""
    own_BM = torch.zeros_like(targets.weight_BB)
    own_BM.diagonal().fill_(1)
    alike_BM = (targets.weight_BB > 0) & (own_BM == 0)
    return PairTargets(own_BM, targets.ignored_BB | alike_BM)


def multi_positive(logits_BM: Tensor, targets: PairTargets, *, smoothing: float = 0.0) -> Tensor:
    """Return the cross-entropy of the softmax with each row's positives, both ways.

    The targets of a row are its weights over their sum. k positives are best reached at 1/k each.
    """
    rows = len(logits_BM)
    with torch.no_grad():
        never_BM = torch.where(targets.ignored_BB, NEVER, 0.0).to(logits_BM.dtype)
        moved_BM = _shares(targets.weight_BB.to(logits_BM.dtype))
        if smoothing:
            even_BM = _shares((~targets.ignored_BB).to(logits_BM.dtype))
            moved_BM = torch.lerp(moved_BM, even_BM, smoothing)
        moved_BM.diagonal().sub_(2)
    # The loss of the own pairs alone, which torch has fused, and then the pull that moves from
    # them to others. Adding costs nothing backwards: what is ignored has no slope anyway.
    compared_BM, own_B = logits_BM + never_BM, torch.arange(rows, device=logits_BM.device)
    there = F.cross_entropy(compared_BM, own_B)
    back = F.cross_entropy(compared_BM[:, :rows].mT, own_B)
    moved = torch.dot(moved_BM.flatten(), logits_BM.flatten())
    return (there + back - moved / rows) / 2


def _shares(weight_BM: Tensor) -> Tensor:
    """Return each weight over the sum of its row plus, among the first B, that of its column."""
    rows = len(weight_BM)
    per_row_B1, per_column_B = 1 / weight_BM.sum(1, keepdim=True), 1 / weight_BM[:, :rows].sum(0)
    shares_BM = weight_BM * per_row_B1
    shares_BM[:, :rows] += weight_BM[:, :rows] * per_column_B
    return shares_BM


def siglip(logits_BM: Tensor, targets: PairTargets, *, smoothing: float = 0.0) -> Tensor:
    """Return the binary cross-entropy of every pair with its weight, summed, over the images.

    A positive of weight 1 costs ``softplus(-logit)``, a negative ``softplus(logit)``, one that is
    ignored nothing; weights in between divide a pair among both. Smoothing moves all targets
    towards 1/2.
    """
    wanted_BM = targets.weight_BB.to(logits_BM.dtype) * (1 - smoothing) + smoothing / 2
    cost_BM = F.binary_cross_entropy_with_logits(logits_BM, wanted_BM, reduction="none")
    return cost_BM.masked_fill(targets.ignored_BB, 0).sum() / len(logits_BM)


def dcl(
    logits_BM: Tensor, targets: PairTargets, *, within: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Return ``-s(positive) + log sum_{negatives} e^s``, both ways; positives leave the sum.

    The positive term is the mean over a row's positives, by their weights. A row without
    negatives does not count; the loss is 0 where none has any.

    Args:
        logits_BM: Of images with texts.
        targets: Negatives are pairs without weight that are not ignored.
        within: Logits of images with images and of texts with texts, whose negatives join the
            sums (eq. 6 of the paper).

    Raises:
        InputError: The batch holds a single image and text.
    """
    if logits_BM.shape[1] == 1:
        raise InputError(
            "the decoupled loss compares a study with others, and the batch holds one",
            hint="use a larger batch, or the loss siglip",
        )
    rows = len(logits_BM)
    images, texts = within or (None, None)
    square = PairTargets(*(part[:, :rows].mT for part in targets))
    one_way = _decoupled(logits_BM, targets, images)
    return (one_way + _decoupled(logits_BM[:, :rows].mT, square, texts)) / 2


def _decoupled(logits_BM: Tensor, targets: PairTargets, within_BB: Tensor | None) -> Tensor:
    negative_BM = negatives(targets)
    compared_BM, rows = logits_BM.masked_fill(~negative_BM, NEVER), len(logits_BM)
    if within_BB is not None:
        inside_BB = within_BB.masked_fill(~negative_BM[:, :rows], NEVER)
        compared_BM = torch.cat([compared_BM, inside_BB], dim=1)
    weight_BM = targets.weight_BB.to(logits_BM.dtype)
    pull_B = (weight_BM * logits_BM).sum(1) / weight_BM.sum(1)
    counts_B = negative_BM.any(1)
    terms_B = (compared_BM.logsumexp(1) - pull_B).masked_fill(~counts_B, 0)
    return terms_B.sum() / counts_B.sum().clamp_min(1)
