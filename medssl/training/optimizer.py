"""Which optimiser, and how its weights are grouped."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from medssl.config.base import Config
from medssl.errors import ConfigError
from medssl.models.encoders.base import Encoder
from medssl.models.text.base import TextEncoder
from medssl.training.lars import LARS

Share = Annotated[float, Field(ge=0, lt=1)]
_OWN_OPTIONS = {"betas": ("adamw",), "amsgrad": ("adamw",), "momentum": ("lars", "sgd")}
_OWN_OPTIONS |= {"nesterov": ("sgd",), "trust": ("lars",)}
_DECAYED = (
    nn.Linear, nn.MultiheadAttention,
    nn.Conv1d, nn.Conv2d, nn.Conv3d,
    nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip


class OptimizerConfig(Config):
    """What turns gradients into steps.

    ``adamw``: Loshchilov & Hutter 2019 (arXiv:1711.05101); ``lars``: You et al. 2017
    (arXiv:1708.03888), for large batches; ``sgd``: with momentum, Nesterov's by default.
    """

    name: Literal["adamw", "lars", "sgd"] = "adamw"
    """The rule."""
    lr: Annotated[float, Field(gt=0)] = 1e-3
    """Peak learning rate."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Pull of the weights of linear layers and convolutions towards zero; biases, normalisation,
    tokens and tables of positions are left alone. Decoupled from the gradient for adamw only."""
    betas: tuple[Share, Share] = (0.9, 0.999)
    """How long adamw remembers gradients and their squares."""
    amsgrad: bool = False
    """adamw: never let the remembered squares shrink."""
    momentum: Share = 0.9
    """lars, sgd: how much of the last step goes on."""
    nesterov: bool = True
    """sgd: look ahead by the momentum."""
    trust: Annotated[float, Field(gt=0)] = 1e-3
    """lars: length of a layer's step as a share of its weights' length, before the rate."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Factor of the learning rate from each stage of the encoder to the one below; heads and
    decoders keep the whole of it. Below 1 for fine-tuning: early stages change less."""
    text_lr_scale: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Factor of the learning rate of the text encoder, where a method trains one; its projection
    keeps the whole rate. Below 1 for one that can read already, such as 0.1."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Gradients longer than this are shortened to it; null for no clipping."""

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        strange = [
            option
            for option, names in _OWN_OPTIONS.items()
            if self.name not in names and getattr(self, option) != _default(option)
        ]
        if strange:
            raise ValueError(f"{self.name} has no {', '.join(strange)}: leave it out")
        if self.name == "sgd" and self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0: raise it, or set nesterov: false")
        return self

    def build(self, module: nn.Module, encoder: Encoder | None = None) -> torch.optim.Optimizer:
        """Return the optimiser of every weight of ``module`` that trains.

        Args:
            module: What trains.
            encoder: The encoder inside it, whose stages ``layer_decay`` counts.

        Raises:
            ConfigError: ``text_lr_scale`` is below 1, and no text encoder trains.
        """
        groups = self._groups(module, encoder)
        if self.name == "adamw":
            return torch.optim.AdamW(groups, self.lr, betas=self.betas, amsgrad=self.amsgrad)
        if self.name == "lars":
            return LARS(groups, self.lr, momentum=self.momentum, trust=self.trust)
        return torch.optim.SGD(groups, self.lr, momentum=self.momentum, nesterov=self.nesterov)

    def _groups(self, module: nn.Module, encoder: Encoder | None) -> list[dict[str, Any]]:
        """Weights of one rate and one decay each, in an order that does not depend on chance."""
        shares = self._rate_shares(module, encoder)
        members: dict[tuple[float, bool], list[nn.Parameter]] = defaultdict(list)
        decayed = decayed_weights(module)
        for parameter in module.parameters():
            if parameter.requires_grad:
                share = shares.get(id(parameter), 1.0)
                members[share, id(parameter) not in decayed].append(parameter)
        return [
            {
                "params": members[share, plain],
                "lr": self.lr * share,
                "weight_decay": 0.0 if plain else self.weight_decay,
            }
            for share, plain in sorted(members, key=lambda of: (-of[0], of[1]))
        ]

    def _rate_shares(self, module: nn.Module, encoder: Encoder | None) -> dict[int, float]:
        """Return the share of the rate of weights that have less than the whole, by their ids."""
        depths = {} if encoder is None or self.layer_decay == 1 else stage_depths(encoder)
        shares = {weight: self.layer_decay**depth for weight, depth in depths.items()}
        if self.text_lr_scale < 1:
            texts = [text for text in module.modules() if isinstance(text, TextEncoder)]
            weights = [weight for text in texts for weight in text.parameters()]
            if not any(weight.requires_grad for weight in weights):
                raise ConfigError(
                    f"optimizer.text_lr_scale is {self.text_lr_scale}, and no text encoder trains",
                    hint="leave it out, or set method.model.text.train to lora, last_n or full",
                )
            shares |= {id(weight): self.text_lr_scale for weight in weights}
        return shares


def _default(option: str) -> Any:
    return OptimizerConfig.model_fields[option].default


def decayed_weights(module: nn.Module) -> set[int]:
    """Return the ids of the weights that decay: matrices and kernels, and nothing else.

    A parameter that a module holds beside its layers is a token or a table; an embedding is a
    table by its type.
    """
    return {
        id(parameter)
        for layer in module.modules()
        if isinstance(layer, _DECAYED)
        for parameter in _own(layer)
        if parameter.ndim > 1
    }


def _own(layer: nn.Module) -> Iterator[nn.Parameter]:
    """Its parameters, also those that a parametrisation keeps for it one level below."""
    parametrised = getattr(layer, "parametrizations", None)
    return layer.parameters(recurse=parametrised is not None)


def stage_depths(encoder: Encoder) -> dict[int, int]:
    """Return how far below the heads each weight of ``encoder`` lies, by its id.

    The last stage is 1 below; what belongs to no stage, such as a token or a table of positions,
    enters with the input and counts as part of the first one.
    """
    stages = encoder.stages()
    depths = {id(parameter): len(stages) for parameter in encoder.parameters()}
    for index, stage in enumerate(stages):
        depths |= {id(parameter): len(stages) - index for parameter in stage.parameters()}
    return depths
