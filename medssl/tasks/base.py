"""What a supervised task is: its network, its loss, and how an answer is made of logits."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from medssl.config.choice import Configurable
from medssl.models.decoders import Decoder
from medssl.models.encoders.base import Encoder
from medssl.tasks._objective import Objective, Sample

Spec = dict[str, Any]
Kind = Literal["segmentation", "classification", "regression"]


class Task(Configurable):
    """No Lightning, no optimiser, no files: those belong to ``medssl.training``.

    The specs it returns are ``{"_target_": <MONAI name>, **arguments}`` mappings of plain values.
    The same specs drive validation, prediction and the exported bundle, so these cannot drift
    apart; see ``medssl.data.preprocessing`` for how they become objects.
    """

    kind: ClassVar[Kind]
    """What is predicted: a class of every voxel, classes of a volume, or numbers of a volume."""
    monitor: ClassVar[str]
    """The score of a validation that chooses the weights; the larger, the better."""
    target_key: ClassVar[str] = "target"
    """Where a sample keeps what the loss compares with: ``label`` for label maps."""
    labels: tuple[str, ...]
    """Name of every class (the background first where there is one), or of every number."""

    class Config(Configurable.Config):
        """The options of one task."""

        @property
        def target_columns(self) -> tuple[str, ...]:
            """Columns of a labelled table that it learns; empty for label maps."""
            return ()

        def labels_of(self, values: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
            """Return the labels, from the distinct values of each target column, "" left out."""
            return ()

    config: "Task.Config"
    """Its options."""

    @property
    def answers(self) -> tuple[str, ...]:
        """Name of everything that is predicted and scored; the background is not."""
        return self.labels

    @property
    def needs_decoder(self) -> bool:
        """Whether ``network`` and ``objective`` must be given a decoder, and the same one."""
        return False

    @property
    def out_channels(self) -> int:
        """Channels of the logits."""
        return len(self.labels)

    def network(
        self, encoder: Encoder, decoder: Decoder | None = None
    ) -> tuple[nn.Module, Spec | None]:
        """Return the network on top of an encoder, whose tensors it shares.

        Args:
            encoder: What it begins with.
            decoder: A trained one of ``encoder.decoder``, for tasks that have use for it.

        Returns:
            The network, and how MONAI builds it; None where MONAI has no such network.
        """
        raise NotImplementedError

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the number to minimise, of what the network returns."""
        raise NotImplementedError

    def loss_of(self, output: Tensor, sample: Sample) -> Tensor:
        """Return the loss, with whatever else a sample says of its target."""
        return self.loss(output, sample[self.target_key])

    def objective(
        self, network: nn.Module, encoder: Encoder, decoder: Decoder | None = None
    ) -> Objective:
        """Return what training minimises.

        Args:
            network: What :meth:`network` returned.
            encoder: The one that it was given.
            decoder: Likewise.
        """
        return Objective(self, network)

    def target_of(self, values: Mapping[str, str]) -> Tensor:
        """Return what ``loss`` compares with, of a case's values in the target columns."""
        raise NotImplementedError

    def input_specs(self, patch_voxels: tuple[int, int, int]) -> list[Spec]:
        """Return what whole volumes still need, after resampling, to enter the network."""
        return []

    def inferer_spec(self, patch_voxels: tuple[int, int, int]) -> Spec:
        """Return how a network of one patch size is run over a whole volume."""
        raise NotImplementedError

    def postprocessing_specs(self) -> list[Spec]:
        """Return the way from logits (key ``pred``) to the answer."""
        raise NotImplementedError
