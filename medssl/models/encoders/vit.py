"""A plain vision transformer for volumes or slices."""

from typing import Annotated, Any, Literal, Self, cast

from pydantic import Field, model_validator
from torch import Tensor, nn

from medssl.models.decoders import Decoder
from medssl.models.encoders.base import Encoder, pooled, upsampled
from medssl.models.vit import (
    TransposedDecoder,
    VisionTransformer,
    ViTSegmenter,
    ViTSize,
    patch_grid,
)

Positive = Annotated[int, Field(gt=0)]


class ViTEncoder(Encoder):
    """Equal patches through equal blocks, after Primus (Wald et al. 2025, arXiv:2503.01835).

    Primus-S, -B, -M and -L are ``width`` 396, 792, 864, 1056, ``depth`` 12, 12, 16, 24 and
    ``heads`` 6, 12, 12, 16 with ``patch`` 8. Every map has the stride of the patch; ``embed`` is
    the mean of the last normed tokens.
    """

    class Config(Encoder.Config):
        dims: Literal[2, 3] = 3
        """2 for slices, 3 for volumes."""
        in_channels: Positive = 1
        """Channels of the input."""
        patch: Literal[2, 4, 8, 16] = 8
        """Side of the cube, or square, of voxels that becomes one token."""
        width: Positive = 396
        """Features of a token."""
        depth: Positive = 12
        """Blocks."""
        heads: Positive = 6
        """Attention heads; they share the width."""
        mlp_ratio: Annotated[float, Field(gt=0)] = 8 / 3
        """Hidden features of a block's MLP over the width; 4 is usual for `gelu`."""
        mlp: Literal["swiglu", "gelu"] = "swiglu"
        """A gated MLP, or a plain one."""
        positions: Literal["rotary", "learned", "both"] = "rotary"
        """`rotary`: attention sees how far apart two tokens lie. `learned`: a table is added to
        the tokens, resized where the input has another grid."""
        rotary_base: Annotated[float, Field(gt=1)] = 100.0
        """Rotary frequencies fall from 1 to nearly one over this."""
        learned_grid: Positive = 12
        """Tokens along each axis of the learned table."""
        registers: Annotated[int, Field(ge=0)] = 0
        """Extra tokens that belong to no patch (Darcet et al. 2024, arXiv:2309.16588)."""
        layer_scale: Annotated[float, Field(ge=0)] = 0.1
        """First value of the learned scale of each residual branch; 0 for none."""
        drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
        """Chance that the last block's branches are dropped for a row; less in earlier ones."""
        qk_norm: bool = False
        """Normalise queries and keys, which keeps attention from saturating."""
        maps: Positive = 4
        """Maps that are returned, of evenly spaced depths, the last block's among them."""
        decoder_channels: Positive = 16
        """Channels of the decoder on the input's grid."""

        @classmethod
        def tiny(cls) -> Self:
            return cls(patch=4, width=24, depth=2, heads=2, maps=2, registers=1, decoder_channels=8)

        @model_validator(mode="after")
        def _sizes_fit(self) -> Self:
            pairs = 2 * self.dims if self.positions != "learned" else 1
            if self.width % (self.heads * pairs):
                raise ValueError(
                    f"width is {self.width}: with {self.heads} heads and {self.positions} "
                    f"positions in {self.dims}D it must be a multiple of {self.heads * pairs}"
                )
            if self.maps > self.depth:
                raise ValueError(f"maps is {self.maps}, more than the {self.depth} blocks")
            return self

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.dims = config.dims
        self.channels = (config.width,) * config.maps
        self.strides = (config.patch,) * config.maps
        self.net = VisionTransformer(ViTSize(**self._size()))

    @property
    def embed_dim(self) -> int:
        return self.config.width

    def _size(self) -> dict[str, Any]:
        return self.config.model_dump(exclude={"name", "decoder_channels"}, mode="json")

    def features(self, x_BCIJK: Tensor) -> list[Tensor]:
        return cast(list[Tensor], self.net(x_BCIJK))

    def pool(self, features: list[Tensor]) -> Tensor:
        return pooled(features[-1])

    def masked_features(self, x_BCIJK: Tensor, visible_BIJK: Tensor) -> list[Tensor]:
        """Return the maps when hidden patches are a learned mask token (iBOT, arXiv:2111.07832).

        Raises:
            ValueError: The mask is finer than the patches, or does not divide their grid.
        """
        visible_BN = self.tokens_seen(x_BCIJK, visible_BIJK)
        return cast(list[Tensor], self.net(x_BCIJK, visible_BN))

    def visible_tokens(self, x_BCIJK: Tensor, visible_BIJK: Tensor) -> Tensor:
        """Return the last tokens of the visible patches, ``(B, seen, width)``, in raster order.

        Hidden patches are dropped at once and cost nothing (MAE, arXiv:2111.06377).

        Raises:
            ValueError: As in :meth:`masked_features`, or rows do not see equally many.
        """
        return self.net.visible_tokens(x_BCIJK, self.tokens_seen(x_BCIJK, visible_BIJK))

    def tokens_seen(self, x_BCIJK: Tensor, visible_BIJK: Tensor) -> Tensor:
        """Return which tokens of an input such a mask shows, ``(B, N)``, in raster order."""
        tokens = x_BCIJK.new_empty(1, 1, *patch_grid(x_BCIJK, self.config.patch))
        return upsampled(visible_BIJK, tokens).flatten(1) > 0

    def stages(self) -> list[nn.Module]:
        return [self.net.patches, *self.net.blocks, self.net.norm]

    def decoder(self) -> Decoder:
        config = self.config
        return TransposedDecoder(config.dims, config.width, config.patch, config.decoder_channels)

    def segmenter(
        self, out_channels: int, decoder: Decoder | None = None
    ) -> tuple[nn.Module, dict[str, Any]]:
        arguments = {
            **self._size(),
            "decoder_channels": self.config.decoder_channels,
            "out_channels": out_channels,
        }
        network = ViTSegmenter(**arguments)
        network.encoder = self.net
        if decoder is not None:
            network.decoder = cast(TransposedDecoder, decoder)
        return network, {"_target_": "medssl.models.vit.ViTSegmenter", **arguments}
