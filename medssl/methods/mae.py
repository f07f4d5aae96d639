"""Masked volume modelling: tell what was hidden of a volume from the rest of it.

He et al., "Masked Autoencoders Are Scalable Vision Learners" (CVPR 2022, arXiv:2111.06377) for
transformers; Tian et al., "Designing BERT for Convolutional Networks" (ICLR 2023,
arXiv:2301.03580) for convolutional encoders.
"""

import math
from typing import Annotated, Literal, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from medssl.data.appearance import AppearanceConfig
from medssl.data.augment import never
from medssl.data.crop_views import CropViews, check_one_size
from medssl.data.masked_views import MaskedViews
from medssl.data.masking import MaskConfig
from medssl.data.views import Batch
from medssl.errors import ConfigError
from medssl.losses.gather import gather_rows
from medssl.losses.masked import best_constant, cell_normalised, masked_error
from medssl.methods.base import LossOutput, Method
from medssl.models.attention import BlockSize
from medssl.models.encoders.base import Encoder, upsampled
from medssl.models.encoders.vit import ViTEncoder
from medssl.models.reconstruction import MaskTokens, StageMask, TokenReconstruction
from medssl.models.unet import CONV
from medssl.models.vit import patch_grid

Positive = Annotated[int, Field(gt=0)]
PLAIN = CropViews(crop_voxels=48, crops=1, spread=1, appearance=never(AppearanceConfig))


class MAE(Method):
    """Hide most of a crop and reconstruct it."""

    class Config(Method.Config):
        views: MaskedViews = MaskedViews(crops=PLAIN, mask=MaskConfig())
        """The crops, and how much of them is hidden in what pieces."""
        masking: Literal["sparse", "zero", "drop"] = "sparse"
        """How it is hidden. `zero`: voxels become 0, or for a transformer patches a learned
        token. `sparse`, for convolutions: features of hidden places become 0 again after every
        stage. `drop`, for a transformer: hidden tokens are left out, and cost nothing."""
        target: Literal["voxels", "cells"] = "voxels"
        """Grey values as they are, or with every cell of the mask normalised on its own."""
        target_eps: Annotated[float, Field(gt=0)] = 1e-6
        """Added to the variance of a cell that is normalised."""
        error: Literal["mse", "l1"] = "mse"
        """Squared or absolute differences, over hidden voxels only."""
        keep_decoder: bool = True
        """Save the decoder beside the encoder, where it is one that can segment: finetuning then
        begins with it. `drop` has none."""
        decoder_width: Positive = 192
        """With `drop`: features of a token in the transformer that reconstructs."""
        decoder_depth: Positive = 4
        """With `drop`: its blocks."""
        decoder_heads: Positive = 4
        """With `drop`: its attention heads."""
        decoder_mlp_ratio: Annotated[float, Field(gt=0)] = 8 / 3
        """With `drop`: hidden features of its MLPs over its width."""
        rotary_base: Annotated[float, Field(gt=1)] = 100.0
        """With `drop`: its rotary frequencies fall from 1 to nearly one over this."""

        @model_validator(mode="after")
        def _crops_of_one_size(self) -> Self:
            check_one_size(self.views.crops)
            return self

        @classmethod
        def tiny(cls) -> Self:
            crops = PLAIN.model_copy(update={"crop_voxels": 16})
            views = MaskedViews(crops=crops, mask=MaskConfig(cell_voxels=4))
            return cls(views=views, decoder_width=24, decoder_depth=1, decoder_heads=2)

    def __init__(self, config: Config, encoder: Encoder) -> None:
        super().__init__()
        self.config, self.encoder, self.views = config, encoder, config.views
        _check(config, encoder)
        if isinstance(encoder, ViTEncoder) and config.masking == "drop":
            self.from_tokens = _token_reconstruction(config, encoder)
            return
        decoder = encoder.decoder()
        if config.keep_decoder:
            self.decoder = decoder
        self.from_maps = nn.ModuleDict({} if config.keep_decoder else {"decoder": decoder})
        self.from_maps["head"] = CONV[encoder.dims](decoder.channels[-1], 1, 1)
        if config.masking == "sparse":
            self.from_maps["fill"] = MaskTokens(encoder.channels, encoder.dims)
            self.stage_mask = StageMask(encoder)

    def loss(self, batch: Batch, *, progress: float) -> LossOutput:
        prediction_BCIJK = self.reconstruct(batch)
        target_BCIJK, hidden_B1IJK = self._target(batch)
        kind = self.config.error
        error_B = masked_error(_precise(prediction_BCIJK), target_BCIJK, hidden_B1IJK, kind)
        total = gather_rows(error_B).mean()
        return LossOutput(total=total, parts={"reconstruction": total})

    def constant_loss(self, batch: Batch) -> dict[str, float]:
        target_BCIJK, hidden_B1IJK = self._target(batch)
        return {"reconstruction": best_constant(target_BCIJK, hidden_B1IJK, self.config.error)}

    def reconstruct(self, batch: Batch) -> Tensor:
        """Return the crops as they are told from their visible part."""
        x_BCIJK, visible_BIJK = batch.views_BCIJK[0], _visible(batch)
        encoder = self.encoder
        if isinstance(encoder, ViTEncoder) and self.config.masking == "drop":
            seen_BVD = encoder.visible_tokens(x_BCIJK, visible_BIJK)
            visible_BN = encoder.tokens_seen(x_BCIJK, visible_BIJK)
            grid = patch_grid(x_BCIJK, encoder.config.patch)
            return cast(Tensor, self.from_tokens(seen_BVD, visible_BN, grid))
        maps = self._maps(x_BCIJK, visible_BIJK)
        decoder = self.decoder or self.from_maps["decoder"]
        return cast(Tensor, self.from_maps["head"](decoder(maps)[-1]))

    def _maps(self, x_BCIJK: Tensor, visible_BIJK: Tensor) -> list[Tensor]:
        if self.config.masking == "zero":
            return self.encoder.masked_features(x_BCIJK, visible_BIJK)
        with self.stage_mask.hiding(visible_BIJK):
            maps = self.encoder.masked_features(x_BCIJK, visible_BIJK)
        return cast(list[Tensor], self.from_maps["fill"](maps, visible_BIJK))

    def _target(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return what is to be told, and 1 for every voxel that was hidden."""
        x_BCIJK, visible_BIJK = _precise(batch.views_BCIJK[0]), _visible(batch)
        hidden_B1IJK = 1 - upsampled(visible_BIJK, x_BCIJK)
        if self.config.target == "cells":
            cells = tuple(visible_BIJK.shape[1:])
            x_BCIJK = cell_normalised(x_BCIJK, cells, self.config.target_eps)
        return x_BCIJK, hidden_B1IJK


def _precise(x_BCIJK: Tensor) -> Tensor:
    """Return it in float32, or in float64 if it is."""
    return x_BCIJK.to(torch.promote_types(x_BCIJK.dtype, torch.float32))


def _visible(batch: Batch) -> Tensor:
    """Return the mask of every row of the first kind of views."""
    return batch.geometry["visible_0_BNIJK"].flatten(0, 1)


def _check(config: MAE.Config, encoder: Encoder) -> None:
    """Raise ConfigError unless this encoder can be masked in this way, and anything is hidden."""
    mask, stride = config.views.mask, max(encoder.strides)
    transformer = isinstance(encoder, ViTEncoder)
    unfit = "drop" if not transformer else "sparse"
    if config.masking == unfit:
        raise ConfigError(
            f"method.masking is {unfit}, which this encoder cannot do",
            hint="use drop or zero with vit, sparse or zero with a convolutional encoder",
        )
    if not mask.fixed:
        raise ConfigError(
            f"method.views.mask hides {list(mask.ratio)} of a crop with probability "
            f"{mask.probability}: rows would hide unequally many cells, or none",
            hint="give one ratio above 0 twice, such as [0.6, 0.6], and probability 1",
        )
    if not 0 < config.views.most_hidden < math.prod(config.views.cells):
        raise ConfigError(
            f"method.views.mask hides {config.views.most_hidden} of the "
            f"{math.prod(config.views.cells)} cells of a crop: there is nothing to tell, or "
            "nothing to tell it from",
            hint="use smaller cells, larger crops or another ratio",
        )
    if mask.cell_voxels % stride and (transformer or config.masking != "zero"):
        raise ConfigError(
            f"method.views.mask.cell_voxels is {mask.cell_voxels}, but one voxel of the encoder's "
            f"coarsest map spans {stride}",
            hint=f"make it a multiple of {stride}, and the crop a multiple of it",
        )


def _token_reconstruction(config: MAE.Config, encoder: ViTEncoder) -> TokenReconstruction:
    size = BlockSize(config.decoder_width, config.decoder_heads, config.decoder_mlp_ratio)
    patch, dims = encoder.config.patch, encoder.dims
    if config.decoder_width % (config.decoder_heads * 2 * dims):
        raise ConfigError(
            f"method.decoder_width is {config.decoder_width}, with {config.decoder_heads} heads",
            hint=f"make it a multiple of {config.decoder_heads * 2 * dims}",
        )
    return TokenReconstruction(
        encoder.config.width,
        patch,
        dims,
        depth=config.decoder_depth,
        size=size,
        rotary_base=config.rotary_base,
    )
