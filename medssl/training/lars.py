"""LARS (You et al. 2017, arXiv:1708.03888): steps in proportion to each layer's weights."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class LARS(torch.optim.Optimizer):
    """SGD with momentum whose rate is scaled layer by layer.

    With ``w`` the weights of a layer, ``g`` their gradient, ``b`` the decay and ``t`` the trust,
    equation 6 and algorithm 1 are::

        local = t * |w| / (|g| + b * |w|)
        v     = momentum * v + lr * local * (g + b * w)
        w     = w - v

    Vectors (biases, normalisation) and layers whose weights or gradient are all zero take the
    plain rate.

    Args:
        params: Groups of weights, as every optimiser takes them, with ``weight_decay``.
        lr: Global learning rate.
        momentum: How much of the last step goes on.
        trust: The trust coefficient.
    """

    def __init__(
        self, params: Iterable[Any], lr: float, *, momentum: float = 0.9, trust: float = 1e-3
    ) -> None:
        super().__init__(
            params, {"lr": lr, "momentum": momentum, "trust": trust, "weight_decay": 0.0}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; ``closure`` computes the gradients anew, if given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is not None:
                    self._update(w, w.grad, group)
        return loss

    def _update(self, w: Tensor, g: Tensor, group: dict[str, Any]) -> None:
        decay = group["weight_decay"]
        state = self.state[w]
        if not state:
            state["velocity"] = torch.zeros_like(w)
        step = g.add(w, alpha=decay)
        if w.ndim > 1:
            length, slope = w.norm(), g.norm()
            local = group["trust"] * length / (slope + decay * length)
            step *= torch.where((length > 0) & (slope > 0), local, 1.0)  # no wait for the device
        w.sub_(state["velocity"].mul_(group["momentum"]).add_(step, alpha=group["lr"]))
