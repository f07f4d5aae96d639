"""Views whose turn must be told and whose gaps must be filled (Tang et al., CVPR 2022)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator

from medssl.data.cut_out import Boxes, CutOutConfig, covered, draw_boxes, filled_with_noise
from medssl.data.views import Batch, Region, Sample, Size, ViewSpec, three

Positive = Annotated[int, Field(gt=0)]
VIEWS = 2
"""Views of one crop."""


@dataclass(frozen=True, kw_only=True)
class TurnedView:
    """What was drawn for one view."""

    quarter_turns: int
    noise: Boxes
    noise_seed: int
    patches: Boxes
    partner: float
    """From 0 to 1: which of the other crops of the batch its patches come from."""


class RotationViews(ViewSpec[tuple[TurnedView, ...]]):
    """Two views of every crop, each turned and cut out on its own.

    ``Batch.views_BCIJK`` is ``[altered (B*crops*2, 1, ...), whole (B*crops*2, 1, ...)]``: each view
    with its gaps, and the same view without, which is what must be reconstructed. The two views
    of a crop follow each other. ``Batch.geometry["quarter_turns_BN"]`` (int64, 0 to 3) says how
    the ``crops*2`` views of a sample are turned.

    Patches come from the same place of another crop of the batch, of its view of the same rank,
    turned but without gaps; that exchange is drawn with the sample and made by ``collate``. Where
    several processes share a batch, each exchanges patches among its own crops, so their number
    changes which are exchanged. The only crop of a process has no other to take patches from, and
    has gaps of noise alone.

    Turns and gaps are the task itself: unseen volumes are scored with them too.
    """

    crop_voxels: Size = 24
    """Size of a crop; one number is a cube."""
    crops: Positive = 2
    """Crops of one volume, anywhere in it."""
    plane: Literal["IJ", "IK", "JK"] = "JK"
    """The plane of the quarter turns: J-K is sagittal, as published; I-J is axial."""
    noise: CutOutConfig = CutOutConfig()
    """Gaps that are filled with noise."""
    patches: CutOutConfig = CutOutConfig()
    """Gaps that are filled, after that, with patches of another crop."""

    @model_validator(mode="after")
    def _turns_keep_the_shape(self) -> Self:
        a, b = self.axes
        if self.region_voxels[a] != self.region_voxels[b]:
            raise ValueError(
                f"crop_voxels {self.region_voxels} has sides of two lengths in the plane "
                f"{self.plane}, where a quarter turn would change its shape: make them equal"
            )
        return self

    @property
    def axes(self) -> tuple[int, int]:
        """The two axes of the turns, the first turned towards the second."""
        return "IJK".index(self.plane[0]), "IJK".index(self.plane[1])

    @property
    def region_voxels(self) -> tuple[int, int, int]:
        return three(self.crop_voxels)

    @property
    def parts(self) -> int:
        return self.crops

    def draw(self, rng: np.random.Generator) -> tuple[TurnedView, ...]:
        return tuple(
            TurnedView(
                quarter_turns=int(rng.integers(4)),
                noise=draw_boxes(self.noise, rng, self.region_voxels),
                noise_seed=int(rng.integers(2**32)),
                patches=draw_boxes(self.patches, rng, self.region_voxels),
                partner=float(rng.random()),
            )
            for _ in range(VIEWS)
        )

    def cut(self, region: Region, draw: tuple[TurnedView, ...]) -> Sample:
        self.check(region)
        whole_NIJK = np.stack(
            [np.rot90(region.voxels_IJK, view.quarter_turns, self.axes) for view in draw]
        )
        altered = [
            filled_with_noise(turned_IJK, view.noise, view.noise_seed)
            for turned_IJK, view in zip(whole_NIJK, draw, strict=True)
        ]
        return Sample(
            [np.stack(altered)[:, None], whole_NIJK[:, None]],
            {
                "quarter_turns_BN": np.array([view.quarter_turns for view in draw], np.int64),
                "patches_BNIJK": np.stack([covered(v.patches, self.region_voxels) for v in draw]),
                "partner_BN": np.array([view.partner for view in draw]),
            },
        )

    def collate(self, samples: Sequence[Sample]) -> Batch:
        batch = super().collate(samples)
        geometry = dict(batch.geometry)
        patches_RIJK = geometry.pop("patches_BNIJK").flatten(0, 1)
        source_R = partner_rows(geometry.pop("partner_BN").flatten())
        altered, whole = batch.views_BCIJK
        altered = torch.where(patches_RIJK[:, None], whole[source_R], altered)
        return Batch([altered, whole], geometry)

    def captions(self, batch: Batch) -> list[list[str]]:
        turns = batch.geometry["quarter_turns_BN"].flatten().tolist()
        return [[f"crop {r // VIEWS}, turned by {90 * turn}" for r, turn in enumerate(turns)]] * 2


def partner_rows(partner_R: torch.Tensor) -> torch.Tensor:
    """Return, for each view of a batch, the row of the view whose voxels fill its patches.

    It is the view of the same rank of another crop, each other crop being as likely; the row
    itself where there is no other crop.

    Args:
        partner_R: What was drawn, from 0 to 1; the two views of a crop follow each other.
    """
    row_R = torch.arange(len(partner_R))
    crops = len(partner_R) // VIEWS
    if crops == 1:
        return row_R
    step_R = 1 + (partner_R * (crops - 1)).long().clamp_max(crops - 2)
    return (row_R // VIEWS + step_R) % crops * VIEWS + row_R % VIEWS
