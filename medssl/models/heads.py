"""Projection heads: from an embedding to the space a loss compares in."""

from torch import Tensor, nn

from medssl.models.norms import SharedBatchNorm


class BatchNormMLP(nn.Sequential):
    """Linear, BatchNorm, ReLU, twice, then Linear: the projector of every VoCo variant.

    BatchNorm has no affine weights and keeps no running statistics, so it always uses those of
    the rows it is given, in all processes that train together.

    Args:
        in_dim: Length of the embedding.
        hidden_dim: Width of the two hidden layers.
        out_dim: Length of the projection.
    """

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int) -> None:
        def norm() -> nn.Module:
            return SharedBatchNorm(hidden_dim, affine=False, track_running_stats=False)

        super().__init__(
            nn.Linear(in_dim, hidden_dim), norm(), nn.ReLU(),
            nn.Linear(hidden_dim, hidden_dim), norm(), nn.ReLU(),
            nn.Linear(hidden_dim, out_dim),
        )  # fmt: skip


def row_dropout(z_ND: Tensor, probability: float) -> Tensor:
    """Zero whole rows with ``probability`` and scale the others by ``1 / (1 - probability)``."""
    keep_N1 = z_ND.new_empty(len(z_ND), 1).bernoulli_(1 - probability)
    return z_ND * keep_N1 / (1 - probability)


class PlainMLP(nn.Sequential):
    """Linear, ReLU, Linear without biases: the global head of Chaitanya et al. 2020.

    Args:
        in_dim: Length of the embedding.
        hidden_dim: Width of the hidden layer.
        out_dim: Length of the projection.
    """

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int) -> None:
        super().__init__(
            nn.Linear(in_dim, hidden_dim, bias=False),
            nn.ReLU(),
            nn.Linear(hidden_dim, out_dim, bias=False),
        )


class PointwiseHead(nn.Module):
    """Linear, BatchNorm, ReLU, Linear on the features of single places: two 1 x 1 convolutions.

    The local head of Chaitanya et al. 2020. Linear layers have no biases; BatchNorm keeps no
    running statistics, so it always uses those of the places it is given, in all processes.

    Args:
        in_dim: Channels of the map.
        hidden_dim: Width between the layers.
        out_dim: Length of the projection.
    """

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(in_dim, hidden_dim, bias=False),
            SharedBatchNorm(hidden_dim, track_running_stats=False),
            nn.ReLU(),
            nn.Linear(hidden_dim, out_dim, bias=False),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return the projections ``(..., out_dim)`` of features ``(..., in_dim)``."""
        rows: Tensor = self.layers(features.flatten(0, -2))
        return rows.view(*features.shape[:-1], -1)
