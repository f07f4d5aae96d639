"""What a method asks of the data path, and what it is given.

Shape suffixes, here and in every tensor name of the package:

    B   samples, or views of samples: rows of a batch
    C   channels
    IJK voxel axes towards right, anterior, superior (RAS+)
    N   random crops of one sample
    K   base crops of one sample
    D   embedding

A method owns a ``ViewSpec``. For every sample the data path reads one region of a volume, or as
many as the spec has ``parts``, scales it to [0, 1], and lets the spec draw (all randomness, from
one generator) and then cut (deterministic). ``collate`` joins samples into the ``Batch`` that
reaches ``Method.loss``.

Methods on slices receive views without the K axis, ``(B, C, I, J)``, under the same names.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, Generic, NamedTuple, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.utils.data import default_collate

from medssl.config.base import Config

FloatArray = NDArray[np.float32]
Size3 = tuple[int, int, int]
Size = (
    Annotated[int, Field(gt=0)]
    | tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]
)
"""Voxels along I, J, K; one number is a cube."""
Draw = TypeVar("Draw")
Band = tuple[float, float]
"""From where to where along one axis of a volume, as shares of its length."""
WHOLE: tuple[Band, Band, Band] = ((0.0, 1.0),) * 3


class SequenceCrop(NamedTuple):
    """A region as one volume of its group shows it."""

    voxels_IJK: FloatArray
    """Values in [0, 1]."""
    contrast: str | None
    """Which sequence or quantitative map it is, where that is known."""
    limits: tuple[float, float]
    """The stored values that 0 and 1 stand for."""


class Region(NamedTuple):
    """The box of a volume that a sample is cut from, and where in the volume it lies."""

    voxels_IJK: FloatArray
    """``region_voxels`` values in [0, 1]."""
    start_IJK: tuple[int, int, int]
    """Its first voxel in the volume; negative where it begins with padding."""
    volume_shape: tuple[int, int, int]
    """Voxels of the volume along I, J, K."""
    sequences: tuple[SequenceCrop, ...] = ()
    """For a spec that asks for several: the same box of the volumes that it chose."""


class Sample(NamedTuple):
    """The views cut from one region, or several, before they are joined into a batch."""

    views_BCIJK: list[FloatArray]
    """One array per kind of view; B counts this sample's views of that kind."""
    geometry: dict[str, NDArray[Any]]
    """What is known about where the views lie; the meaning of a key is the spec's."""


class LabelledPatches(Config):
    """Labelled patches that a method is given beside its views."""

    classes: Annotated[int, Field(ge=2)] = 2
    """Classes of the label maps, with the background, which is 0."""
    patch_voxels: Annotated[int, Field(gt=0)] = 24
    """Length of a patch, which is a cube."""
    per_sample: Annotated[int, Field(gt=0)] = 1
    """Patches that come with every sample of the batch."""


class Labelled(NamedTuple):
    """Patches whose every voxel has a class; as many rows as samples x patches per sample."""

    image_BCIJK: Tensor
    """float32, scaled as the views are."""
    label_BIJK: Tensor
    """int64 class numbers; 0 is the background."""


class Texts(NamedTuple):
    """What the reports of a batch say, sentence by sentence, and what is known about them."""

    token_BSL: Tensor
    """int64 token numbers; no tokens (L = 0) where the method keeps what they become."""
    token_mask_BSL: Tensor
    """Whether there is a token."""
    sentence_BS: Tensor
    """int64 number of each sentence among all different ones of the set; -1 for none."""
    study_B: Tensor
    """int64: which study it is."""
    text_B: Tensor
    """int64: equal for reports of equal words."""
    normal_B: Tensor
    """int8: 1 where the report finds nothing, 0 where it finds something, -1 where unknown."""
    label_BF: Tensor
    """int8 per finding: 1 present, 0 absent, -1 uncertain, -2 not spoken of."""


class Batch(NamedTuple):
    """The views of one batch, sample-major: all views of the first sample come first."""

    views_BCIJK: list[Tensor]
    """One float32 tensor per kind of view, with samples x views-per-sample rows."""
    geometry: dict[str, Tensor]
    """The samples' geometry, stacked along a new first axis B."""
    labelled: Labelled | None = None
    """For a method that asks for it: patches of other volumes, which are labelled."""
    texts: Texts | None = None
    """For a method that asks for it: the reports about the studies that the views show."""


def three(size: Size) -> Size3:
    """Return the voxels along I, J and K; one number is a cube."""
    return (size, size, size) if isinstance(size, int) else size


def joined(parts: Sequence[Sample]) -> Sample:
    """Return what was cut from the regions of one volume as one sample, in their order.

    Views and geometry are joined along their first axis.
    """
    if len(parts) == 1:
        return parts[0]
    kinds = zip(*(part.views_BCIJK for part in parts), strict=True)
    geometry = {name: np.concatenate([p.geometry[name] for p in parts]) for name in parts[0][1]}
    return Sample([np.concatenate(kind) for kind in kinds], geometry)


class ViewSpec(Config, Generic[Draw]):
    """Which views a method needs of one region of a volume."""

    @property
    @abstractmethod
    def region_voxels(self) -> tuple[int, int, int]:
        """Size along I, J, K of the region that ``cut`` expects."""

    @property
    def parts(self) -> int:
        """Regions of one volume that make up a sample; each is drawn and cut on its own."""
        return 1

    def band(self, part: int) -> tuple[Band, Band, Band]:
        """Return, along I, J, K, between where the centre of a part's region lies.

        From the first number on, and before the second. Where the volume is too short for it, the
        region lies as near as it can.
        """
        return WHOLE

    @property
    def sequences(self) -> int:
        """Fewest volumes of one group that a sample needs; 1 where any volume will do."""
        return 1

    def choose(self, contrasts: Sequence[str | None], rng: np.random.Generator) -> tuple[int, ...]:
        """Return which volumes of a group are read for a sample, drawn where there is a choice.

        Asked only of a spec that needs several. None of them where the group cannot serve.

        Args:
            contrasts: What each volume of the group is, where that is known.
            rng: The sample's generator.
        """
        return ()

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Draw:
        """Draw everything random about one sample, and nothing else."""

    @abstractmethod
    def cut(self, region: Region, draw: Draw) -> Sample:
        """Cut the drawn views out of a region.

        Raises:
            ValueError: The region does not have ``region_voxels``.
        """

    def unchanged(self) -> Self:
        """Return the spec that cuts the same views without altering how they look.

        Scores on unseen volumes are taken with it.
        """
        return self

    def captions(self, batch: Batch) -> list[list[str]]:
        """Return a few words for each row of each kind of view, to stand under its picture."""
        return [[f"view {row}" for row in range(len(view))] for view in batch.views_BCIJK]

    def check(self, region: Region) -> None:
        """Raise ``ValueError`` unless the region is as large as the spec asks for."""
        if region.voxels_IJK.shape != self.region_voxels:
            raise ValueError(
                f"the region is {region.voxels_IJK.shape}, expected {self.region_voxels}"
            )

    def collate(self, samples: Sequence[Sample]) -> Batch:
        """Join samples: views along their first axis, geometry along a new one.

        In a worker process torch stacks straight into memory that the training process sees. The
        views of one sample alone are not copied.
        """
        kinds = zip(*(sample.views_BCIJK for sample in samples), strict=True)
        geometry: dict[str, Tensor] = default_collate([sample.geometry for sample in samples])
        return Batch([_stacked(kind) for kind in kinds], geometry)


def _stacked(kind: Sequence[FloatArray]) -> Tensor:
    if len(kind) == 1:
        return torch.from_numpy(np.ascontiguousarray(kind[0]))
    stacked: Tensor = default_collate(list(kind))
    return stacked.flatten(0, 1)
