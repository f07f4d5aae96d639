"""What a model said of one volume, whole, as those who write it down receive it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medssl.io.dicom.slices import SliceHeader, paths_of
from medssl.io.volume import Volume
from medssl.training.task_model import ModelDescription

_CLASSIFICATION = "classification"
_EVEN = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Masks:
    """What is predicted of every answer of a segmentation, on the volume's own grid.

    Classes that exclude each other are kept as one array of numbers: a mask of every class would
    take as many times the memory. Regions, which may overlap, are kept one by one.
    """

    names: tuple[str, ...]
    """Of the answers; the background is none."""
    numbers_IJK: NDArray[np.uint8] | None = None
    """The answer of every voxel, from 1 on, 0 for none; of classes."""
    regions_CIJK: NDArray[np.bool_] | None = None
    """Of regions."""

    def __post_init__(self) -> None:
        if (self.numbers_IJK is None) == (self.regions_CIJK is None):
            raise ValueError("masks are either numbers or regions")

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> NDArray[np.bool_]:
        """Return where answer ``index``, from 0 on, is: ``(I, J, K)``."""
        if not 0 <= index < len(self.names):
            raise IndexError(index)
        if self.regions_CIJK is not None:
            return np.asarray(self.regions_CIJK[index])
        return np.asarray(self.numbers_IJK == index + 1)

    def __iter__(self) -> Iterator[NDArray[np.bool_]]:
        return (self[index] for index in range(len(self.names)))

    @property
    def stacked_CIJK(self) -> NDArray[np.bool_]:  # noqa: N802  the shape is part of the name
        """All of them, ``(answers, I, J, K)``."""
        return np.stack(list(self)) if self.regions_CIJK is None else self.regions_CIJK

    @property
    def painted_IJK(self) -> NDArray[np.uint8]:  # noqa: N802  likewise
        """Them as numbers from 1 on; where they overlap the last one counts."""
        if self.numbers_IJK is not None:
            return self.numbers_IJK
        numbers_IJK = np.zeros(self.stacked_CIJK.shape[1:], np.uint8)
        for number, mask_IJK in enumerate(self, start=1):
            numbers_IJK[mask_IJK] = number
        return numbers_IJK


@dataclass(frozen=True, kw_only=True, eq=False)
class Predicted:
    """One volume and what was predicted of it."""

    name: str
    """What files are called after: a NIfTI's own name, a number for DICOM."""
    number: int
    """Number of the input among those given, from 1: how records name it."""
    volume: Volume
    """The scan, on its native grid; masks lie on the same."""
    slices: tuple[SliceHeader, ...] = ()
    """Of a DICOM input: the slices it was read from, in the order of the third axis, with the
    paths of their files. Where the grid is not theirs ``volume.regularized`` is not empty, and
    ``volume.slices`` says which slice each index shows. Empty for other inputs."""
    masks: Masks | None = None
    """Of a segmentation."""
    answers: Mapping[str, float] = field(default_factory=dict)
    """Of tasks about whole volumes: probability of every class, or every number, by name."""
    description: ModelDescription
    """The model."""
    seconds: float
    """How long the prediction took."""
    distance: float | None = None
    """From the scans that the model was trained on; None where the model does not tell."""
    usual: float | None = None
    """Share of those scans that are closer, from 0 to 1."""
    warnings: tuple[str, ...] = ()
    """What a reader of the result should know, in sentences without identifiers."""
    written: tuple[Path, ...] = ()
    """Files that earlier outputs, and the overlay, have made of it; below the output folder."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of every number in a mask, the background first; of others, of every answer."""
        return ("background", *self.masks.names) if self.masks else tuple(self.answers)

    @property
    def conclusions(self) -> dict[str, str | bool]:
        """What a classification comes down to; empty for other tasks.

        Of classes that exclude each other the likeliest one, by the name of their column; of
        several findings, for each whether it is likelier than not.
        """
        task = self.description.task
        if task.get("name") != _CLASSIFICATION or not self.answers:
            return {}
        columns = task["columns"]
        if len(columns) == 1:
            return {columns[0]: max(self.answers, key=self.answers.__getitem__)}
        return {name: value > _EVEN for name, value in self.answers.items()}

    @property
    def files(self) -> tuple[Path, ...]:
        """The DICOM files that it was read from, each once, in the order of the slices."""
        return tuple(paths_of(self.slices))

    @property
    def volumes_ml(self) -> dict[str, float]:
        """Volume of every structure of a segmentation, in millilitres."""
        if self.masks is None:
            return {}
        return {
            name: count * self.voxel_ml
            for name, count in zip(self.masks.names, self.voxels, strict=True)
        }

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel, in millilitres."""
        return abs(float(np.linalg.det(self.volume.affine_ras[:3, :3]))) / 1000

    @property
    def voxels(self) -> tuple[int, ...]:
        """How many voxels every structure of a segmentation has."""
        return tuple(int(np.count_nonzero(mask_IJK)) for mask_IJK in self.masks or ())
