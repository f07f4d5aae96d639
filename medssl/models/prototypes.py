"""The head of teacher-student methods: from an embedding to how alike it is to each prototype."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medssl.models.attention import initialise
from medssl.models.norms import SharedBatchNorm


class PrototypeHead(nn.Module):
    """MLP with GELU, unit vectors, then their cosines with learned prototypes.

    The head of DINO (Caron et al. 2021, arXiv:2104.14294, section 3.1): its last layer is weight
    normalised with a gain of 1, so that a prototype is a direction.

    Args:
        in_dim: Length of the embedding.
        hidden_dim: Width of the hidden layers.
        out_dim: Length of the unit vectors.
        prototypes: How many.
        layers: Linear layers of the MLP.
        batch_norm: Normalise hidden layers over the rows of the batch, as the published code can:
            what all rows share is taken out, and they begin apart. It always uses the statistics
            of the rows it is given, at least two.
    """

    def __init__(
        self,
        in_dim: int,
        hidden_dim: int,
        out_dim: int,
        prototypes: int,
        *,
        layers: int,
        batch_norm: bool,
    ) -> None:
        super().__init__()
        widths = [in_dim] + [hidden_dim] * (layers - 1)
        hidden: list[nn.Module] = []
        for a, b in pairwise(widths):
            hidden.append(nn.Linear(a, b))
            if batch_norm:
                hidden.append(SharedBatchNorm(b, affine=False, track_running_stats=False))
            hidden.append(nn.GELU())
        self.mlp = nn.Sequential(*hidden, nn.Linear(widths[-1], out_dim))
        self.prototypes = nn.Parameter(nn.init.trunc_normal_(torch.empty(prototypes, out_dim)))
        initialise(self.mlp)

    def forward(self, x_ND: Tensor) -> tuple[Tensor, Tensor]:
        """Return unit vectors ``(N, out_dim)`` and their cosines ``(N, prototypes)``.

        Both are float32 or better, also under mixed precision: they are divided by temperatures.
        """
        x_ND = self.mlp(x_ND)
        with torch.autocast(x_ND.device.type, enabled=False):
            x_ND = x_ND.to(torch.promote_types(x_ND.dtype, torch.float32))
            z_ND = F.normalize(x_ND, dim=1)
            return z_ND, F.linear(z_ND, F.normalize(self.prototypes, dim=1))


class Centre(nn.Module):
    """The slow mean of a teacher's outputs; what a step saw is taken up when it is over.

    Args:
        size: Outputs.
    """

    value_P: Tensor
    sum_P: Tensor
    count: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("value_P", torch.zeros(size))
        self.register_buffer("sum_P", torch.zeros(size))
        self.register_buffer("count", torch.zeros(()))

    @torch.no_grad()
    def add(self, sum_P: Tensor, count: Tensor) -> None:
        """Take note of outputs: their sum and how many they were, over all processes."""
        self.sum_P += sum_P
        self.count += count

    @torch.no_grad()
    def step(self, momentum: float) -> None:
        """Move towards the mean of what was noted since the last step, if anything was."""
        mean_P = self.sum_P / self.count.clamp_min(1)
        self.value_P.lerp_(mean_P, (1 - momentum) * (self.count > 0).to(mean_P.dtype))
        self.sum_P.zero_()
        self.count.zero_()
