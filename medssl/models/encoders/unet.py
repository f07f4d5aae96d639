"""The convolutional encoders of nnU-Net, plain or residual, in two or three dimensions."""

from typing import Annotated, Any, Literal, Self, cast

from pydantic import Field, model_validator
from torch import Tensor, nn

from medssl.models.decoders import Decoder
from medssl.models.encoders.base import Encoder, check_normed_grid
from medssl.models.unet import PyramidEncoder, UNet, UNetDecoder, initialise

Positive = Annotated[int, Field(gt=0)]


class UNetEncoder(Encoder):
    """Stages of convolutions, each but the first on half the grid of the one before.

    Plain: Isensee et al., "nnU-Net" (Nature Methods 2021). Residual: Isensee et al., "nnU-Net
    Revisited" (arXiv:2404.09556), whose ResEnc-L is ``channels: [32, 64, 128, 256, 320, 320]``,
    ``depths: [1, 3, 4, 6, 6, 6]``, ``residual: true``, ``decoder_convs: 1``.
    """

    class Config(Encoder.Config):
        dims: Literal[2, 3] = 3
        """2 for slices, 3 for volumes."""
        in_channels: Positive = 1
        """Channels of the input."""
        channels: Annotated[tuple[Positive, ...], Field(min_length=2)] = (16, 32, 64, 128)
        """Channels of each stage, finest first; as many stages as numbers."""
        depths: tuple[Positive, ...] = (2, 2, 2, 2)
        """Convolutions of each stage, or residual blocks."""
        residual: bool = False
        """Residual blocks behind a stem, as in nnU-Net's ResEnc presets."""
        decoder_convs: Positive = 2
        """Convolutions of each level of the decoder."""

        @classmethod
        def tiny(cls) -> Self:
            return cls(channels=(4, 8), depths=(1, 1), decoder_convs=1)

        @model_validator(mode="after")
        def _one_depth_per_stage(self) -> Self:
            if len(self.depths) != len(self.channels):
                raise ValueError(
                    f"depths has {len(self.depths)} numbers, channels {len(self.channels)}: "
                    "give one depth per stage"
                )
            return self

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.dims = config.dims
        self.channels = config.channels
        self.strides = tuple(2**stage for stage in range(len(config.channels)))
        self.net = PyramidEncoder(
            config.dims,
            config.in_channels,
            config.channels,
            config.depths,
            residual=config.residual,
        )
        initialise(self.net)

    def features(self, x_BCIJK: Tensor) -> list[Tensor]:
        check_normed_grid(x_BCIJK, self.strides[-1])
        return cast(list[Tensor], self.net(x_BCIJK))

    def stages(self) -> list[nn.Module]:
        return [self.net.stem, *self.net.stages]

    def decoder(self) -> Decoder:
        config = self.config
        decoder = UNetDecoder(config.dims, config.channels, convs=config.decoder_convs)
        initialise(decoder)
        return decoder

    def segmenter(
        self, out_channels: int, decoder: Decoder | None = None
    ) -> tuple[nn.Module, dict[str, Any]]:
        arguments = {
            **self.config.model_dump(exclude={"name"}, mode="json"),
            "out_channels": out_channels,
        }
        network = UNet(**arguments)
        initialise(network)
        network.encoder = self.net
        if decoder is not None:
            network.decoder = cast(UNetDecoder, decoder)
        return network, {"_target_": "medssl.models.unet.UNet", **arguments}
