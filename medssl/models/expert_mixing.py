"""Where an expert looked, mixed into the image: further positives for few annotated studies.

After eCLIP (Kumar and Marttinen, ECCV 2024, arXiv:2403.10153): attention from the patches of the
image under its heat map to the patches of the image makes an expert image; image and expert image
are mixed, and the mixtures join the batch beside the images, with the same texts. How often
follows a schedule: not at first, then more and more, then rarely again.

Suffixes: B images, C channels, IJ or IJK voxels, N patches, D features.
"""

from typing import Final

import torch
from torch import Tensor, nn
from torch.distributions import Beta
from torch.nn import functional as F

from medssl.errors import InputError

COLD: Final = 0.1
"""Share of training before the first expert images."""
WARM: Final = 0.4
"""Share of training at which they are most frequent."""
COOL: Final = 0.8
"""Share of training from which on they are rare again."""
RARE, OFTEN = 0.05, 0.5
"""Share of steps with expert images, at least and at most, once they have begun."""
MIXING: Final = 0.2
"""Both parameters of the Beta distribution of an image's share."""


def expert_share(progress: float) -> float:
    """Return the share of steps that have expert images, as training goes from 0 to 1.

    Processes that train together must decide alike whether a step has them, as with
    :func:`medssl.losses.gather.from_first`: they hold equally many rows.
    """
    if progress < COLD:
        return 0.0
    if progress < WARM:
        return RARE + (OFTEN - RARE) * (progress - COLD) / (WARM - COLD)
    return RARE + (OFTEN - RARE) * max(0.0, COOL - progress) / (COOL - WARM)


class ExpertMixing(nn.Module):
    """Make expert images of images and heat maps, and mix them.

    Args:
        channels: Of the image.
        dims: 2 for ``(B, C, I, J)``, 3 for ``(B, C, I, J, K)``.
        patch_voxels: Along every axis.
        width: Features of a patch.
        heads: Attention heads.
    """

    def __init__(
        self, channels: int, dims: int, patch_voxels: int = 16, width: int = 256, heads: int = 8
    ) -> None:
        super().__init__()
        self.patch_voxels = patch_voxels
        into, out = (
            (nn.Conv2d, nn.ConvTranspose2d) if dims == 2 else (nn.Conv3d, nn.ConvTranspose3d)  # noqa: PLR2004
        )
        self.patches = into(channels, width, patch_voxels, patch_voxels)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.image = out(width, channels, patch_voxels, patch_voxels)

    def forward(self, x_BCIJK: Tensor, heat_B1IJK: Tensor) -> Tensor:
        """Return the expert image, of the image's shape.

        Args:
            x_BCIJK: Images; a whole number of patches along every axis.
            heat_B1IJK: How much an expert looked at each voxel, at least 0. Only its shape counts:
                each image's is divided by its own maximum.

        Raises:
            InputError: The image is no whole number of patches.
        """
        sizes = x_BCIJK.shape[2:]
        if any(size % self.patch_voxels for size in sizes):
            raise InputError(
                f"an image of {' x '.join(map(str, sizes))} voxels is no whole number of patches "
                f"of {self.patch_voxels}",
                hint="choose crops or patches that fit",
            )
        most = heat_B1IJK.flatten(1).amax(1).view(-1, *[1] * (x_BCIJK.ndim - 1))
        heat_B1IJK = heat_B1IJK / most.clamp_min(torch.finfo(most.dtype).tiny)
        looked_at, seen = self.patches(heat_B1IJK * x_BCIJK), self.patches(x_BCIJK)
        query_BND, key_BND = (z.flatten(2).mT for z in (looked_at, seen))
        made_BND, _ = self.attention(query_BND, key_BND, key_BND, need_weights=False)
        expert: Tensor = self.image(made_BND.mT.unflatten(2, seen.shape[2:]))
        return expert

    def mixed(self, x_BCIJK: Tensor, heat_B1IJK: Tensor, share_B: Tensor | None = None) -> Tensor:
        """Return mixtures of images and expert images.

        Args:
            x_BCIJK: As in :meth:`forward`.
            heat_B1IJK: As there.
            share_B: How much of each is the image itself; drawn from Beta(0.2, 0.2) without.

        Raises:
            InputError: As :meth:`forward`.
        """
        if share_B is None:
            share_B = Beta(MIXING, MIXING).sample((len(x_BCIJK),))
        share = share_B.to(x_BCIJK).view(-1, *[1] * (x_BCIJK.ndim - 1))
        made: Tensor = self(x_BCIJK, heat_B1IJK)
        return torch.lerp(made.to(x_BCIJK.dtype), x_BCIJK, share)

    def errors(self, x_BCIJK: Tensor, heat_B1IJK: Tensor) -> Tensor:
        """Return the mean squared error of each expert image as a copy of its image, ``(B,)``.

        Added to the loss, with a weight of 0.3, before the first expert images are used, it lets
        them begin as images.

        Raises:
            InputError: As :meth:`forward`.
        """
        made = self(x_BCIJK, heat_B1IJK)
        return F.mse_loss(made, x_BCIJK, reduction="none").flatten(1).mean(1)
