"""What a supervised task is: what it predicts, its loss, and how a prediction is made of logits."""

from typing import Any, ClassVar

from torch import Tensor

from medssl.config.choice import Configurable


class Task(Configurable):
    """No Lightning, no optimiser, no files: those belong to ``medssl.training``.

    The specs it returns are ``{"_target_": <MONAI name>, **arguments}`` mappings of plain values.
    The same specs drive validation, prediction and the exported bundle, so these cannot drift
    apart; see ``medssl.data.preprocessing`` for how they become objects.
    """

    kind: ClassVar[str]
    """One word for people and other tools, such as ``segmentation``."""
    labels: tuple[str, ...]
    """Name of every class, the background first."""

    @property
    def out_channels(self) -> int:
        """Channels of the logits."""
        return len(self.labels)

    def loss(self, logits_BCIJK: Tensor, target_B1IJK: Tensor) -> Tensor:
        """Return the number to minimise."""
        raise NotImplementedError

    def inferer_spec(self, patch_voxels: tuple[int, int, int]) -> dict[str, Any]:
        """Return how a network of one patch size is run over a whole volume."""
        raise NotImplementedError

    def postprocessing_specs(self) -> list[dict[str, Any]]:
        """Return the way from logits (key ``pred``) to the answer on the input's own grid."""
        raise NotImplementedError
