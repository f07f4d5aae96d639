"""Mixtures of images with what an expert looked at, contrasted with the same reports.

After eCLIP (Kumar and Marttinen, ECCV 2024, arXiv:2403.10153), where mixtures join the batch as
further rows. Here they are a batch of their own in which the other studies show their plain images,
so that every process holds equally many rows however few studies are annotated.

Suffixes: B studies, M annotated ones, N images of the first views of all, A of the annotated ones,
S images of a study, D features of the common space.
"""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Beta

from medssl.config.base import Config
from medssl.data.annotations import HEAT
from medssl.data.study_views import in_place
from medssl.data.views import Batch
from medssl.losses.gather import from_first, gather_rows, gather_uneven, own_rows
from medssl.models.expert_mixing import COLD, MIXING, ExpertMixing, expert_share

RECONSTRUCTION = 0.3
"""Weight of what comes before the first mixtures: the expert image learns to be an image."""
Embed = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Images, which a study has, and where they lie, to unit vectors ``(M, D)`` of studies."""


class ExpertConfig(Config):
    """How images are mixed with what an expert looked at."""

    weight: Annotated[float, Field(gt=0)] = 1.0
    """Of the contrast of the mixtures."""
    patch_voxels: Annotated[int, Field(gt=0)] = 16
    """Sides of the patches that attention sees; `views.crop_voxels` is a multiple of it."""
    width: Annotated[int, Field(gt=0)] = 256
    """Features of a patch."""
    heads: Annotated[int, Field(gt=0)] = 8
    """Attention heads; `width` is a multiple of it."""


class Looked(NamedTuple):
    """The first views of the studies that somebody annotated, in this process."""

    image_ACIJK: Tensor
    heat_A1IJK: Tensor
    present_MS: Tensor
    position_mm_MS: Tensor
    study_M: Tensor
    """Their rows among the studies of this process."""


class ExpertContrast(nn.Module):
    """What makes the mixtures.

    Args:
        config: How.
        dims: 2 for slices, 3 for volumes.
    """

    def __init__(self, config: ExpertConfig, dims: int) -> None:
        super().__init__()
        self.config = config
        self.mixing = ExpertMixing(1, dims, config.patch_voxels, config.width, config.heads)

    def reconstruction(self, batch: Batch) -> Tensor:
        """Return the weighted error of expert images as copies; 0 where nobody looked."""
        looked = _looked(batch)
        error_A = looked.image_ACIJK.new_zeros(0)
        if len(looked.study_M):
            shown = looked.heat_A1IJK.flatten(1).any(1)
            error_A = self.mixing.errors(looked.image_ACIJK[shown], looked.heat_A1IJK[shown])
        error_A = gather_uneven(error_A)
        return RECONSTRUCTION * error_A.sum() / max(len(error_A), 1)

    def mixtures(self, batch: Batch, image_BD: Tensor, embed: Embed) -> Tensor | None:
        """Return the embeddings of all processes' studies, mixed where somebody looked.

        None where nobody did.

        Args:
            batch: Of this process.
            image_BD: Embeddings of the plain first views, of all processes.
            embed: The encoder and its projection.
        """
        looked = _looked(batch)
        studies = len(batch.geometry["present_BVS"])
        mixed_BD = image_BD.new_zeros(studies, image_BD.shape[1])
        share_B = own_rows(_share_of_image(image_BD))
        is_mixed_B = torch.zeros(studies, dtype=torch.bool, device=image_BD.device)
        if len(looked.study_M):
            share_A = share_B[looked.study_M].repeat_interleave(looked.present_MS.sum(1))
            x_ACIJK = self.mixing.mixed(looked.image_ACIJK, looked.heat_A1IJK, share_A)
            shown = looked.heat_A1IJK.flatten(1).any(1).view(-1, *[1] * (x_ACIJK.ndim - 1))
            x_ACIJK = torch.where(shown, x_ACIJK, looked.image_ACIJK)
            unit_MD = embed(x_ACIJK, looked.present_MS, looked.position_mm_MS)
            mixed_BD = mixed_BD.index_put((looked.study_M,), unit_MD)
            is_mixed_B[looked.study_M] = True
        mixed_BD, is_mixed_B = gather_rows(mixed_BD), gather_rows(is_mixed_B)
        if not is_mixed_B.any():
            return None
        return torch.where(is_mixed_B[:, None], mixed_BD, image_BD)


def step_of(progress: float, device: torch.device) -> str:
    """Return what a step of a training has: ``reconstruction``, ``mixtures`` or ``nothing``.

    All processes that train together have the same.
    """
    drawn = from_first(torch.rand((), device=device))
    if progress < COLD:
        return "reconstruction"
    return "mixtures" if float(drawn) < expert_share(progress) else "nothing"


def _share_of_image(image_BD: Tensor) -> Tensor:
    """Return how much of the mixture of each study of all processes is its image."""
    share_B = Beta(MIXING, MIXING).sample((len(image_BD),)).to(image_BD)
    return from_first(share_B)


def _looked(batch: Batch) -> Looked:
    present_BVS = batch.geometry["present_BVS"]
    position_mm_BS = batch.geometry["position_mm_BVS"][:, 0]
    x_NCIJK = batch.views_BCIJK[0]
    heat_N1IJK = batch.geometry.get(HEAT, x_NCIJK.new_zeros(len(x_NCIJK), 1, 1, 1))[:, None]
    if x_NCIJK.ndim < heat_N1IJK.ndim:  # slices
        heat_N1IJK = heat_N1IJK[..., 0]
    looked_at_BVS = in_place(heat_N1IJK.flatten(1).any(1), present_BVS)
    study_M = looked_at_BVS[:, 0].any(1).nonzero()[:, 0]
    of_BVS = torch.zeros_like(present_BVS)
    of_BVS[study_M, 0] = present_BVS[study_M, 0]
    rows = of_BVS[present_BVS]
    heat_A1IJK = heat_N1IJK[rows].to(x_NCIJK.dtype)
    return Looked(
        x_NCIJK[rows], heat_A1IJK, present_BVS[study_M, 0], position_mm_BS[study_M], study_M
    )
