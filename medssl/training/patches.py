"""Label maps to training patches; every patch is a function of (seed, sample index)."""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import torch
from monai.transforms import (
    Compose,
    FgBgToIndices,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandGaussianNoised,
    RandScaleIntensityd,
    RandShiftIntensityd,
    SpatialPadd,
)
from pydantic import Field
from torch import Tensor
from torch.utils.data import Dataset

from medssl.config.base import Config
from medssl.data.preprocessing import Spec, as_metatensor, compose, in_memory, with_label
from medssl.data.sampling import BatchIndices, Stream, VolumeOrder, generator
from medssl.labelled.cases import LabelledCase, read_pair
from medssl.runs.progress import track
from medssl.tasks.base import Task
from medssl.tasks.segmentation import Segmentation
from medssl.training.loader_processes import Loader

Patch = dict[str, Tensor]
Probability = Annotated[float, Field(ge=0, le=1)]
_BOTH = ("image", "label")
_CENTRES = ("label_fg_indices", "label_bg_indices")
ANNOTATED = "annotated"
"""Key of the channels that a case has annotated, where that is not all of them."""


class PatchAugmentConfig(Config):
    """What is changed at random about a training patch."""

    foreground_share: Probability = 0.7
    """Share of patches centred on a labelled voxel; the others are centred anywhere. Voxels that
    are ignored are no centres. Of no meaning where whole volumes are labelled."""
    flip_axes: tuple[Annotated[int, Field(ge=0, le=2)], ...] = (0, 1, 2)
    """Axes mirrored at random; leave out 0 when classes tell left from right."""
    flip_probability: Probability = 0.5
    """Chance of each flip."""
    intensity_probability: Probability = 0.3
    """Chance of each change of intensity."""
    scale: Annotated[float, Field(ge=0)] = 0.1
    """Largest relative change of contrast."""
    shift: Annotated[float, Field(ge=0)] = 0.1
    """Largest shift of brightness; intensities lie in [0, 1]."""
    noise_std: Annotated[float, Field(ge=0)] = 0.03
    """Standard deviation of added noise."""

    def build(self, patch_voxels: tuple[int, int, int]) -> Compose:
        """Return the transforms from a padded volume to one augmented patch."""
        crop = RandCropByPosNegLabeld(
            keys=_BOTH,
            label_key="label",
            spatial_size=patch_voxels,
            pos=self.foreground_share,
            neg=1 - self.foreground_share,
            num_samples=1,
            fg_indices_key=_CENTRES[0],
            bg_indices_key=_CENTRES[1],
        )
        return Compose([crop, *self.changes(_BOTH)])

    def changes(self, mirrored: Sequence[str]) -> list[Any]:
        """Return the flips of everything in ``mirrored``, and the changes of the ``image``."""
        flips = [
            RandFlipd(keys=mirrored, prob=self.flip_probability, spatial_axis=axis)
            for axis in self.flip_axes
        ]
        chance = self.intensity_probability
        return [
            *flips,
            RandScaleIntensityd(keys="image", factors=self.scale, prob=chance),
            RandShiftIntensityd(keys="image", offsets=self.shift, prob=chance),
            RandGaussianNoised(keys="image", std=self.noise_std, prob=chance),
        ]


def prepare_volumes(
    cases: Sequence[LabelledCase], specs: Sequence[Spec], modality: str, description: str
) -> list[Patch]:
    """Return ``image`` and ``label`` of every case on the network's grid, kept in memory.

    Each is ``(1, I, J, K)``: float32 as the network sees it, and class numbers as uint8.
    """
    transform = compose(with_label(in_memory(specs)))
    prepared = []
    for case in track(cases, description):
        volume, label_IJK = read_pair(case, modality)
        data = transform(
            {
                "image": as_metatensor(volume.array_IJK, volume.affine_ras),
                "label": as_metatensor(label_IJK, volume.affine_ras),
            }
        )
        label = data["label"].as_tensor().round().to(torch.uint8)
        prepared.append({"image": data["image"].as_tensor(), "label": label})
    return prepared


def with_annotated(
    volumes: Sequence[Patch], cases: Sequence[LabelledCase], task: Task
) -> list[Patch]:
    """Return the volumes with the channels that each has annotated, if one has not all of them."""
    if not isinstance(task, Segmentation) or all(case.annotated is None for case in cases):
        return list(volumes)
    return [
        {**volume, ANNOTATED: task.annotated(case.annotated)}
        for volume, case in zip(volumes, cases, strict=True)
    ]


class PatchDataset(Dataset[Patch]):
    """Patch number ``sample_index`` of an endless, reproducible sequence."""

    def __init__(
        self,
        volumes: Sequence[Patch],
        augment: PatchAugmentConfig,
        patch_voxels: tuple[int, int, int],
        *,
        batch_size: int,
        seed: int,
        ignore_label: int | None = None,
    ) -> None:
        """Keep the volumes, padded where they are smaller than a patch.

        Args:
            volumes: What ``prepare_volumes`` returns.
            augment: What is changed at random.
            patch_voxels: Size of a patch.
            batch_size: Consecutive samples that show different volumes where there are enough.
            seed: Decides the order and everything drawn.
            ignore_label: Number of voxels that no patch is centred on; None where all count.
        """
        pad = SpatialPadd(keys=_BOTH, spatial_size=patch_voxels)
        padded: list[dict[Any, Any]] = [pad(dict(volume.items())) for volume in volumes]
        self._volumes = [_with_centres(volume, ignore_label) for volume in padded]
        self._random = augment.build(patch_voxels)
        self._order = VolumeOrder(len(volumes), batch_size, seed)
        self._seed = seed

    def __getitem__(self, sample_index: int) -> Patch:
        """Return ``image`` and ``label``, each ``(1, I, J, K)`` of the patch size."""
        rng = generator(self._seed, sample_index, Stream.SAMPLE)
        self._random.set_random_state(seed=int(rng.integers(2**32, dtype=np.uint32)))
        volume = self._volumes[self._order.volume_of(sample_index)]
        (patch,) = self._random(dict(volume))
        whole = {key: value for key, value in volume.items() if key == ANNOTATED}
        return {key: torch.as_tensor(patch[key].as_tensor()) for key in _BOTH} | whole


def _with_centres(volume: dict[Any, Any], ignore_label: int | None) -> dict[str, Any]:
    """Add where patches may be centred, as indices: on labelled voxels, and anywhere."""
    label_N = volume["label"].as_tensor().flatten()
    # MONAI negates bits: of a label map in uint8 its background is every voxel.
    labelled, anywhere = (torch.as_tensor(each) for each in FgBgToIndices()(volume["label"]))
    if ignore_label is not None:
        labelled = labelled[label_N[labelled] != ignore_label]
        counting = anywhere[label_N[anywhere] != ignore_label]
        anywhere = counting if len(counting) else anywhere  # nothing counts: no place is better
    return {**volume, _CENTRES[0]: labelled, _CENTRES[1]: anywhere}


def labelled_loader(
    dataset: Dataset[Patch], *, batch_size: int, batches: int, start: int, workers: int
) -> Loader[Patch]:
    """Return the batches ``start`` to ``batches`` of ``dataset``, in order."""
    indices = BatchIndices(batch_size=batch_size, total_batches=batches, start_batch=start)
    return Loader(dataset, workers=workers, batch_sampler=indices)
