"""VoCo with labels: crops without labels and labelled patches train encoder and decoder together.

Omni-supervised, semi-supervised and supervised pretraining of Wu et al., "Large-Scale 3D Medical
Image Pre-training with Geometric Context Priors" (TPAMI 2025, arXiv:2410.09890), and its code.
"""

import copy
from typing import Annotated, Literal, Self, cast

import torch
from monai.losses import DiceCELoss
from monai.metrics import compute_dice
from monai.networks import one_hot
from pydantic import Field
from torch import Tensor, nn

from medssl.data.grid_views import GridViews
from medssl.data.views import Batch, Labelled, LabelledPatches
from medssl.methods.base import LossOutput, Method
from medssl.methods.voco import Placement, PlacementConfig
from medssl.models.decoders import Decoder
from medssl.models.ema import ema_update
from medssl.models.encoders.base import Encoder

Weight = Annotated[float, Field(ge=0)]


class VoCoOmni(Method):
    """Place crops as VoCo does, segment labelled patches, then crops by labels of one's own."""

    class Config(PlacementConfig):
        mode: Literal["omni", "semi", "supervised"] = "omni"
        """`omni` learns from the place of crops, labelled patches and pseudo-labels of crops,
        `semi` leaves the places out, `supervised` uses labelled patches alone."""
        patches: LabelledPatches = LabelledPatches()
        """The labelled patches that come with the crops."""
        supervised_weight: Weight = 1.0
        """Weight of the loss on labelled patches."""
        pseudo_weight: Weight = 1.0
        """Weight of the loss on pseudo-labels of the random crops."""
        pseudo_label_start: Annotated[float, Field(ge=0, le=1)] = 0.5
        """Share of the training after which the network, as it then is, is copied to give
        pseudo-labels until the end; 1 for never."""
        detach_features: bool = True
        """Pseudo-labels train the decoder alone, as the published omni-supervised code does; off,
        they train the encoder too."""
        dice_weight: Weight = 1.0
        """Weight of Dice in the loss of a segmentation."""
        ce_weight: Weight = 1.0
        """Weight of cross-entropy in it."""
        include_background: bool = False
        """Count the background among the classes of Dice."""

        @classmethod
        def tiny(cls) -> Self:
            return cls(
                views=GridViews(grid=(2, 2, 1), crop_voxels=16, random_crops=2),
                patches=LabelledPatches(patch_voxels=16, classes=3),
                hidden_dim=64,
                projection_dim=64,
                pseudo_label_start=1.0,
            )

        @property
        def labelled_patches(self) -> LabelledPatches:
            return self.patches

    def __init__(self, config: Config, encoder: Encoder) -> None:
        super().__init__()
        self.config, self.encoder, self.views = config, encoder, config.views
        self.decoder: Decoder = encoder.decoder()
        self.head = nn.Conv3d(self.decoder.channels[-1], config.patches.classes, 1)
        self.placement = Placement(config, encoder) if config.mode == "omni" else None
        self.snapshot = (
            Snapshot(encoder, self.decoder, self.head) if config.mode != "supervised" else None
        )
        self._segmentation_loss = DiceCELoss(
            include_background=config.include_background,
            to_onehot_y=True,
            softmax=True,
            lambda_dice=config.dice_weight,
            lambda_ce=config.ce_weight,
        )

    def loss(self, batch: Batch, *, progress: float) -> LossOutput:
        if batch.labelled is None:
            raise ValueError("voco_omni needs labelled patches in every batch, and found none")
        placed, features = self._place(batch)
        supervised, scores = self._supervised(batch.labelled)
        parts = {**placed.parts, "supervised": supervised}
        if self.snapshot is not None and self.snapshot.taken:
            pseudo, found = self._pseudo(batch.views_BCIJK[0], features)
            parts["pseudo"] = pseudo
            scores |= found
        return LossOutput(
            total=torch.stack(list(parts.values())).sum(),
            parts=parts,
            scores={**placed.scores, **scores},
            z_ND=placed.z_ND,
        )

    def before_step(self, *, progress: float) -> None:
        if self.placement is not None:
            self.placement.follow(self.encoder)
        if self.snapshot is not None and self.config.pseudo_label_start <= progress < 1:
            self.snapshot.take_once(self.encoder, self.decoder, self.head)

    def constant_loss(self, batch: Batch) -> dict[str, float]:
        return {} if self.placement is None else self.placement.constant_loss(batch)

    def _place(self, batch: Batch) -> tuple[LossOutput, list[Tensor] | None]:
        """Return VoCo's loss and the maps of the random crops, which the decoder may go on from."""
        if self.placement is None:
            return LossOutput(total=batch.views_BCIJK[0].new_zeros(())), None
        features = self.encoder.features(torch.cat(batch.views_BCIJK))
        crops = len(batch.views_BCIJK[0])
        placed = self.placement.loss(batch, self.encoder.pool(features))
        return placed, [level[:crops] for level in features]

    def _supervised(self, labelled: Labelled) -> tuple[Tensor, dict[str, Tensor]]:
        features = self.encoder.features(labelled.image_BCIJK)
        logits_BCIJK = _logits(self.decoder, self.head, features)
        loss = self._dice_ce(logits_BCIJK, labelled.label_BIJK)
        dice = _foreground_dice(logits_BCIJK, labelled.label_BIJK)
        return self.config.supervised_weight * loss, {"labelled_dice": dice}

    def _pseudo(
        self, crop_BCIJK: Tensor, features: list[Tensor] | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss on crops that the frozen copy has labelled."""
        label_BIJK = cast(Snapshot, self.snapshot).label(crop_BCIJK)
        if features is None:
            with torch.set_grad_enabled(
                torch.is_grad_enabled() and not self.config.detach_features
            ):
                features = self.encoder.features(crop_BCIJK)
        if self.config.detach_features:
            features = [level.detach() for level in features]
        loss = self._dice_ce(_logits(self.decoder, self.head, features), label_BIJK)
        foreground = (label_BIJK > 0).float().mean()
        return self.config.pseudo_weight * loss, {"pseudo_foreground": foreground}

    def _dice_ce(self, logits_BCIJK: Tensor, label_BIJK: Tensor) -> Tensor:
        return cast(Tensor, self._segmentation_loss(logits_BCIJK, label_BIJK[:, None]))


class Snapshot(nn.Module):
    """A frozen copy of a segmentation network, taken once and kept with the checkpoint."""

    def __init__(self, encoder: Encoder, decoder: Decoder, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder, self.head = copy.deepcopy((encoder, decoder, head))
        self.requires_grad_(False)
        self.taken = False

    def take_once(self, encoder: Encoder, decoder: Decoder, head: nn.Module) -> None:
        """Copy the network as it is now, unless that has been done."""
        if not self.taken:
            pairs = ((self.encoder, encoder), (self.decoder, decoder), (self.head, head))
            for mine, theirs in pairs:
                ema_update(mine, theirs, momentum=0)
            self.taken = True

    @torch.no_grad()
    def label(self, crop_BCIJK: Tensor) -> Tensor:
        """Return the most likely class of every voxel, ``(B, I, J, K)``, as in evaluation."""
        self.eval()
        return _logits(self.decoder, self.head, self.encoder.features(crop_BCIJK)).argmax(1)

    def get_extra_state(self) -> Tensor:
        """Return whether it was taken, as a tensor: a checkpoint of tensors runs nothing."""
        return torch.tensor(self.taken)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore whether it was taken."""
        self.taken = bool(state)


def _logits(decoder: Decoder, head: nn.Module, features: list[Tensor]) -> Tensor:
    """Return a float32 score of every class for every voxel of what the maps were made from."""
    logits: Tensor = head(decoder(features)[-1])
    return logits.float()


@torch.no_grad()
def _foreground_dice(logits_BCIJK: Tensor, label_BIJK: Tensor) -> Tensor:
    """Return the mean Dice of patches and classes but the background; 1 where both have none."""
    classes = logits_BCIJK.shape[1]
    found_BCIJK = one_hot(logits_BCIJK.argmax(1, keepdim=True), classes)
    label_BCIJK = one_hot(label_BIJK[:, None], classes)
    return compute_dice(
        found_BCIJK, label_BCIJK, include_background=False, ignore_empty=False
    ).mean()
