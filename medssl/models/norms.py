"""Batch normalisation whose batch is that of all processes."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from medssl.runs.processes import sum_over_processes, world_size


class SharedBatchNorm(_BatchNorm):
    """``nn.BatchNorm1d``, ``2d`` and ``3d``, with the statistics of all processes' rows.

    Weights, buffers and their names are those of torch's; alone it is torch's. Mean and variance
    (Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 1) come from sums over processes that
    gradients flow through, on every device, so several processes train as one with all the rows.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` ``(B, C, ...)`` normalised over everything but its channels."""
        if not self._uses_batch() or world_size() == 1:
            return super().forward(x)
        axes = [0, *range(2, x.ndim)]
        x32 = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        count = x32.new_tensor(x32.numel() // x32.shape[1] * world_size())
        mean_C = sum_over_processes(x32.sum(axes)) / count
        centred = x32 - _beside(mean_C, x)
        variance_C = sum_over_processes(centred.square().sum(axes)) / count
        self._remember(mean_C.detach(), (variance_C * count / (count - 1)).detach())
        y = centred * _beside((variance_C + self.eps).rsqrt(), x)
        if self.affine:
            y = y * _beside(self.weight, x) + _beside(self.bias, x)
        return y.to(x.dtype)

    def _uses_batch(self) -> bool:
        return self.training or self.running_mean is None

    @torch.no_grad()
    def _remember(self, mean_C: Tensor, variance_C: Tensor) -> None:
        mean, variance, seen = self.running_mean, self.running_var, self.num_batches_tracked
        if not self.training or mean is None or variance is None or seen is None:
            return
        seen.add_(1)
        weight = 1 / float(seen) if self.momentum is None else self.momentum
        mean.lerp_(mean_C.to(mean.dtype), weight)
        variance.lerp_(variance_C.to(variance.dtype), weight)

    def _check_input_dim(self, x: Tensor) -> None:
        if x.ndim < 2:  # noqa: PLR2004 - rows and channels
            raise ValueError(f"expected rows and channels, found {x.ndim} axis")


def _beside(values_C: Tensor, x: Tensor) -> Tensor:
    return values_C.view(1, -1, *[1] * (x.ndim - 2))


def share_batch_norms(module: nn.Module) -> None:
    """Turn every batch normalisation of torch inside ``module`` into a shared one, in place."""
    for part in module.modules():
        if type(part) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
            part.__class__ = SharedBatchNorm
