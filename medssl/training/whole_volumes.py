"""Labelled whole volumes as training samples; each is a function of (seed, sample index)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose
from torch.utils.data import Dataset

from medssl.data.preprocessing import Spec, as_metatensor, compose, in_memory
from medssl.data.sampling import Stream, VolumeOrder, generator
from medssl.labelled.cases import LabelledCase, read_image
from medssl.runs.progress import track
from medssl.tasks.base import Task
from medssl.training.patches import Patch, PatchAugmentConfig


def prepare_whole(
    cases: Sequence[LabelledCase],
    specs: Sequence[Spec],
    task: Task,
    modality: str,
    description: str,
) -> list[Patch]:
    """Return ``image`` ``(1, I, J, K)`` as the network sees it and ``target``, kept in memory."""
    transform = compose(in_memory(specs))
    prepared = []
    for case in track(cases, description):
        volume = read_image(case, modality)
        data = transform({"image": as_metatensor(volume.array_IJK, volume.affine_ras)})
        image = data["image"].as_tensor().contiguous()
        prepared.append({"image": image, "target": task.target_of(case.targets)})
    return prepared


class WholeVolumeDataset(Dataset[Patch]):
    """Volume number ``sample_index`` of an endless, reproducible sequence, changed at random."""

    def __init__(
        self,
        volumes: Sequence[Patch],
        augment: PatchAugmentConfig,
        *,
        batch_size: int,
        seed: int,
        balanced: bool,
    ) -> None:
        """Keep the volumes.

        Args:
            volumes: What ``prepare_whole`` returns.
            augment: What is changed at random.
            batch_size: Consecutive samples that show different volumes where there are enough.
            seed: Decides the order and everything drawn.
            balanced: Take the classes in turn, however many volumes each has; targets are then
                class numbers.
        """
        self._volumes, self._seed = list(volumes), seed
        self._random = Compose(augment.changes(["image"]))
        targets = [int(volume["target"]) for volume in volumes] if balanced else [0] * len(volumes)
        self._groups = [
            [place for place, target in enumerate(targets) if target == wanted]
            for wanted in sorted(set(targets))
            if wanted >= 0 or not balanced  # a class that is not known teaches nothing
        ]
        share = max(1, batch_size // len(self._groups))
        self._orders = [VolumeOrder(len(group), share, seed) for group in self._groups]

    def __getitem__(self, sample_index: int) -> Patch:
        """Return ``image`` and ``target`` of one volume."""
        turn, which = divmod(sample_index, len(self._groups))
        volume = self._volumes[self._groups[which][self._orders[which].volume_of(turn)]]
        rng = generator(self._seed, sample_index, Stream.SAMPLE)
        self._random.set_random_state(seed=int(rng.integers(2**32, dtype=np.uint32)))
        changed: dict[str, Any] = self._random({"image": volume["image"]})
        return {"image": torch.as_tensor(changed["image"].as_tensor()), "target": volume["target"]}
