"""Labelled patches beside the crops of a pretraining: an endless stream of them, paired by sample.

The patches of a sample are a function of (seed, sample index) alone, as the sample is: a resumed
training gets the ones it would have got, and so do several processes that share a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils.data import Dataset

from medssl.config.base import Config
from medssl.data.normalize import IntensityConfig, Scale
from medssl.data.preprocessing import PreprocessingConfig
from medssl.data.store import CropStore
from medssl.data.views import Batch, Labelled, LabelledPatches, Sample, ViewSpec
from medssl.errors import ConfigError
from medssl.labelled.cases import LabelledSet
from medssl.labelled.read import read_labelled
from medssl.labelled.splits import LabelledSplitConfig, split_cases
from medssl.training.patches import Patch, PatchAugmentConfig, PatchDataset, prepare_volumes

Pair = tuple[Sample, list[Patch]]


class LabelledSource(Config):
    """Which labelled volumes come beside the crop store; they are kept in memory."""

    dataset: Path
    """The labelled data set, as for `medssl finetune`, of classes that exclude each other. Volumes
    are resampled to the store's spacing."""
    intensity: Scale | None = None
    """How their intensities become [0, 1]; null: as `data.intensity` says for their modality."""
    splits: LabelledSplitConfig = LabelledSplitConfig()
    """Which cases train and which validate; the others are never read, so that a finetuning with
    the same splits can be tested on them."""
    augment: PatchAugmentConfig = PatchAugmentConfig(foreground_share=0.9)
    """Where patches lie, and what is changed at random about them."""


def check_labels_wanted(
    method: str, wanted: LabelledPatches | None, source: LabelledSource | None
) -> None:
    """Raise ValueError unless labelled volumes are named where a method needs them, and only there.

    Args:
        method: Its name.
        wanted: What it asks for.
        source: What the configuration names.
    """
    if wanted is not None and source is None:
        raise ValueError(
            f"the method {method} learns from labelled volumes too, and none are named: set "
            "labelled.dataset to the dataset.json of a labelled data set"
        )
    if wanted is None and source is not None:
        raise ValueError(
            f"the method {method} uses no labels, but `labelled` names some: take it out, or "
            "choose a method that learns from labels, such as voco_omni"
        )


@dataclass(frozen=True, kw_only=True)
class LabelledStream:
    """A checked labelled data set, and how its patches go beside the samples of a crop store."""

    source: LabelledSource
    labelled: LabelledSet
    wanted: LabelledPatches
    preprocessing: PreprocessingConfig

    @property
    def inputs(self) -> dict[str, str]:
        """What the run depends on, for its record."""
        return {"labelled": self.labelled.digest}

    def pair(
        self, crops: Dataset[Sample], part: Literal["train", "val"], *, batch_size: int, seed: int
    ) -> "PairedDataset":
        """Return ``crops`` with the patches of one part of the cases, not augmented for ``val``.

        Args:
            crops: Samples of the crop store.
            part: Which cases.
            batch_size: Consecutive samples whose patches come from different volumes where there
                are enough.
            seed: Decides the order of the volumes and everything drawn.
        """
        keys = split_cases(self.labelled.cases, self.source.splits, folds=self.labelled.folds)[part]
        volumes = prepare_volumes(
            [self.labelled.case(key) for key in keys],
            self.preprocessing.specs(),
            self.labelled.modality,
            f"Preparing labelled volumes ({part})",
        )
        size, per_sample = self.wanted.patch_voxels, self.wanted.per_sample
        patches = PatchDataset(
            volumes,
            self.source.augment if part == "train" else _unchanged(self.source.augment),
            (size, size, size),
            batch_size=batch_size * per_sample,
            seed=seed,
        )
        return PairedDataset(crops, patches, per_sample)


def open_stream(
    source: LabelledSource | None,
    wanted: LabelledPatches | None,
    store: CropStore,
    intensity: IntensityConfig,
) -> LabelledStream | None:
    """Return the stream of a data set after checking all of it; None where there is none.

    Args:
        source: Which data set.
        wanted: The patches that the method asks for.
        store: Whose spacing the patches get.
        intensity: How its volumes become [0, 1].

    Raises:
        InputError: Listing every problem of the data set.
        ConfigError: It has other classes than the method, its modality is not known, or there are
            too few cases.
    """
    if source is None or wanted is None:
        return None
    labelled = read_labelled(source.dataset)
    if len(labelled.labels) != wanted.classes:
        raise ConfigError(
            f"{source.dataset} has {len(labelled.labels)} classes with the background, and the "
            f"method expects {wanted.classes}",
            hint=f"set method.patches.classes to {len(labelled.labels)}",
        )
    if labelled.regions or labelled.ignore_label is not None:
        raise ConfigError(
            f"{source.dataset} declares {'regions' if labelled.regions else 'an ignored label'}, "
            "and a pretraining learns from classes that exclude each other, of every voxel",
            hint="choose another data set, or fine-tune on this one",
        )
    split_cases(labelled.cases, source.splits, folds=labelled.folds)
    scale = _scale(source, labelled, intensity)
    preprocessing = PreprocessingConfig(spacing_mm=store.spacing_mm, intensity=scale)
    preprocessing.specs()
    return LabelledStream(
        source=source, labelled=labelled, wanted=wanted, preprocessing=preprocessing
    )


def _scale(source: LabelledSource, labelled: LabelledSet, intensity: IntensityConfig) -> Any:
    if source.intensity is not None:
        return source.intensity
    scales = {"CT": intensity.ct, "MR": intensity.mr}
    if labelled.modality not in scales:
        raise ConfigError(
            f"{source.dataset} does not say whether its images are CT or MR",
            hint="name it under `modality` there, or set labelled.intensity.name to ct or mr",
        )
    return scales[labelled.modality]


def _unchanged(augment: PatchAugmentConfig) -> PatchAugmentConfig:
    return augment.model_copy(update={"flip_probability": 0.0, "intensity_probability": 0.0})


class PairedDataset(Dataset[Pair]):
    """Samples of a crop store, each with labelled patches."""

    def __init__(self, crops: Dataset[Sample], patches: PatchDataset, per_sample: int) -> None:
        self.crops, self.patches, self.per_sample = crops, patches, per_sample

    def __getitem__(self, sample_index: int) -> Pair:
        first = sample_index * self.per_sample
        own = [self.patches[first + n] for n in range(self.per_sample)]
        return self.crops[sample_index], own


@dataclass(frozen=True)
class PairedCollate:
    """Joins pairs into one batch; an object, because loader processes must be given it."""

    views: ViewSpec[Any]

    def __call__(self, pairs: Sequence[Pair]) -> Batch:
        """Return the samples' batch with all patches, sample by sample."""
        batch = self.views.collate([sample for sample, _ in pairs])
        patches = [patch for _, own in pairs for patch in own]
        image_BCIJK = torch.stack([patch["image"] for patch in patches])
        label_BIJK = torch.stack([patch["label"][0] for patch in patches]).long()
        return batch._replace(labelled=Labelled(image_BCIJK, label_BIJK))
