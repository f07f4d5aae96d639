"""Many logistic regressions at once, each held back differently, in one run."""

import logging
from typing import NamedTuple

import torch
from torch import Tensor

_log = logging.getLogger(__name__)
STEPS = 20_000
_TOLERANCE = 1e-6
"""Ends when no component of a gradient is larger."""
_CONSTANT = 1e-12
"""A smaller standard deviation is rounding."""


class Heads(NamedTuple):
    """Trained linear heads."""

    weight_HDC: Tensor
    bias_HC: Tensor
    exclusive: bool

    def logits(self, x_HMD: Tensor) -> Tensor:
        """Return ``(H, M, C)``; ``x`` may lack the first axis, and then is read by all heads."""
        return x_HMD @ self.weight_HDC + self.bias_HC[:, None]

    def shares(self, x_HMD: Tensor) -> Tensor:
        """Return ``(H, M, C)`` probabilities."""
        return _squash(self.logits(x_HMD), self.exclusive)


def standardised(x_ND: Tensor, like_LD: Tensor) -> Tensor:
    """Return features less the mean of ``like_LD``, over its standard deviation, in float64.

    A feature that is the same in all of ``like_LD`` becomes 0: nothing can be learned from it.
    """
    like_LD = like_LD.double()
    std_D = like_LD.std(-2, correction=0, keepdim=True)
    scale_D = torch.where(std_D > _CONSTANT, 1 / std_D.clamp_min(_CONSTANT), 0.0)
    return (x_ND.double() - like_LD.mean(-2, keepdim=True)) * scale_D


def fit_heads(
    x_HLD: Tensor,
    y_HLC: Tensor,
    l2_H: Tensor,
    *,
    exclusive: bool,
    steps: int = STEPS,
) -> Heads:
    """Return the minima of ``mean_l loss(x_l W + b, y_l) + l2 / 2 |W|^2``, of all heads together.

    The loss is cross-entropy over classes that exclude each other, else the sum over columns of
    the binary one. As DINOv2 does with learning rates (Oquab et al. 2023, arXiv:2304.07193), all
    heads share every pass; but each problem is convex, so that its result does not depend on how
    it was reached. Accelerated gradient steps (Nesterov 1983) of the length
    that the largest singular value of the features allows, restarted where they point uphill
    (O'Donoghue and Candes 2015, arXiv:1204.3982).

    Args:
        x_HLD: Rows of each head, float64; without the first axis all heads learn from the same.
        y_HLC: Their answers: 0 and 1, or NaN where a column is not known and does not count.
        l2_H: How much each head is held back; above 0. The bias is not.
        exclusive: Whether each row has one class.
        steps: At most so many; a warning is logged where they were not enough.
    """
    x_HLE = torch.cat([x_HLD, torch.ones_like(x_HLD[..., :1])], dim=-1)
    rows, wide = x_HLE.shape[-2:]
    known_HLC, y_HLC = (~y_HLC.isnan()).double(), y_HLC.nan_to_num(0.0)
    held_HE1 = l2_H[:, None, None].expand(-1, wide, 1).clone()
    held_HE1[:, -1] = 0
    curvature = 0.5 if exclusive else 0.25  # of softmax and of sigmoid, at most
    largest = torch.linalg.matrix_norm(x_HLE, 2) ** 2 / rows
    step_H11 = 1 / (curvature * largest + l2_H)[:, None, None]

    def gradient(w_HEC: Tensor) -> Tensor:
        error_HLC = (_squash(x_HLE @ w_HEC, exclusive) - y_HLC) * known_HLC
        return x_HLE.mT @ error_HLC / rows + held_HE1 * w_HEC

    w_HEC = x_HLE.new_zeros(len(l2_H), wide, y_HLC.shape[-1])
    ahead_HEC, pace_H = w_HEC, x_HLE.new_ones(len(l2_H))
    for _ in range(steps):
        slope_HEC = gradient(ahead_HEC)
        if slope_HEC.abs().max() < _TOLERANCE:
            break
        moved_HEC = ahead_HEC - step_H11 * slope_HEC
        uphill_H = (slope_HEC * (moved_HEC - w_HEC)).sum((1, 2)) > 0
        next_H = (1 + (1 + 4 * pace_H**2).sqrt()) / 2
        push_H = torch.where(uphill_H, 0.0, (pace_H - 1) / next_H)
        pace_H = torch.where(uphill_H, 1.0, next_H)
        ahead_HEC = moved_HEC + push_H[:, None, None] * (moved_HEC - w_HEC)
        w_HEC = moved_HEC
    else:
        _log.warning("%d steps did not reach the minimum of every linear head", steps)
    return Heads(ahead_HEC[:, :-1], ahead_HEC[:, -1], exclusive)


def log_loss(logits_HMC: Tensor, y_MC: Tensor, *, exclusive: bool) -> Tensor:
    """Return ``(H,)`` the mean loss over rows, or over all known answers of several columns.

    Args:
        logits_HMC: Of each head.
        y_MC: 0 and 1; NaN where a column is not known.
        exclusive: Whether each row has one class.
    """
    if exclusive:
        return -(logits_HMC.log_softmax(-1) * y_MC).sum(-1).mean(-1)
    known_MC, signs_MC = ~y_MC.isnan(), 1 - 2 * y_MC.nan_to_num(0.0)
    losses_HMC = torch.nn.functional.softplus(signs_MC * logits_HMC)
    return (losses_HMC * known_MC).sum((1, 2)) / known_MC.sum()


def _squash(logits_HMC: Tensor, exclusive: bool) -> Tensor:
    return logits_HMC.softmax(-1) if exclusive else logits_HMC.sigmoid()
