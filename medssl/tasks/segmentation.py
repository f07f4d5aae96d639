"""Segmentation: one class per voxel."""

from typing import Annotated, Any, ClassVar, cast

from monai.losses import DiceCELoss
from pydantic import Field
from torch import Tensor

from medssl.tasks.base import Task


class Segmentation(Task):
    """Soft Dice plus cross-entropy (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z)."""

    class Config(Task.Config):
        dice_weight: Annotated[float, Field(ge=0)] = 1.0
        """Weight of the Dice part."""
        ce_weight: Annotated[float, Field(ge=0)] = 1.0
        """Weight of the cross-entropy part."""
        dice_over_batch: bool = True
        """Pool the voxels of a batch before dividing: steadier when a patch lacks a class."""
        overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
        """Share of a patch that neighbouring patches repeat when a whole volume is predicted."""
        patches_at_once: Annotated[int, Field(gt=0)] = 4
        """Patches per forward pass when a whole volume is predicted."""

    kind: ClassVar[str] = "segmentation"

    def __init__(self, config: Config, labels: tuple[str, ...]) -> None:
        self.config, self.labels = config, labels
        # The background is most of every patch: its Dice is near 1 and would only dilute the sum.
        self._loss = DiceCELoss(
            include_background=False,
            to_onehot_y=True,
            softmax=True,
            batch=config.dice_over_batch,
            lambda_dice=config.dice_weight,
            lambda_ce=config.ce_weight,
        )

    def loss(self, logits_BCIJK: Tensor, target_B1IJK: Tensor) -> Tensor:
        """Return Dice + cross-entropy; ``target_B1IJK`` holds class numbers of any number type.

        Dice, over every class but the background: ``1 - (2 sum(p g) + e) / (sum(p) + sum(g) + e)``
        with ``e = 1e-5``, averaged over classes.
        """
        return cast(Tensor, self._loss(logits_BCIJK, target_B1IJK))

    def inferer_spec(self, patch_voxels: tuple[int, int, int]) -> dict[str, Any]:
        return {
            "_target_": "SlidingWindowInferer",
            "roi_size": list(patch_voxels),
            "sw_batch_size": self.config.patches_at_once,
            "overlap": self.config.overlap,
            "mode": "gaussian",
        }

    def postprocessing_specs(self) -> list[dict[str, Any]]:
        # Probabilities are resampled, not classes: thin structures survive the way back.
        return [
            {"_target_": "Activationsd", "keys": "pred", "softmax": True},
            {
                "_target_": "Invertd",
                "keys": "pred",
                "transform": "@preprocessing",
                "orig_keys": "image",
                "nearest_interp": False,
                "to_tensor": True,
            },
            {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
        ]
