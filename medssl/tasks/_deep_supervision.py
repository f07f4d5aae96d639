"""Deep supervision: the coarser maps of a decoder learn to segment as well."""

from torch import Tensor, nn

from medssl.losses.segmentation import deep_supervision
from medssl.models.decoders import Decoder
from medssl.models.encoders.base import Encoder
from medssl.models.unet import CONV
from medssl.tasks._objective import Objective, Sample
from medssl.tasks.base import Task


class DeepSupervision(Objective):
    """A 1x1 convolution on every map of the decoder but the coarsest and the finest.

    The finest has the network's own last layer. As in nnU-Net (Isensee et al. 2021), weights halve
    from map to map.
    """

    def __init__(self, task: Task, network: nn.Module, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__(task, network)
        self._parts = [encoder, decoder, encoder.last_layer(network)]  # parts of the network
        self.heads = nn.ModuleList(
            CONV[encoder.dims](channels, task.out_channels, 1)
            for channels in decoder.channels[1:-1]
        )

    def forward(self, batch: Sample) -> Tensor:
        """Return the weighted mean of the losses of all resolutions."""
        encoder, decoder, last = self._parts
        maps = decoder(encoder.features(batch["image"]))  # type: ignore[operator]
        coarser = [head(level) for head, level in zip(self.heads, maps[1:-1], strict=True)]
        logits = [last(maps[-1]), *reversed(coarser)]

        def loss(output: Tensor, label: Tensor) -> Tensor:
            return self.task.loss_of(output, {**batch, "label": label})

        return deep_supervision(loss, logits, batch["label"])
