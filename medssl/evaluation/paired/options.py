"""Which model and which studies, as every command about images and reports is told."""

from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field

from medssl.config.base import Config
from medssl.data.store import CropStore
from medssl.errors import InputError
from medssl.evaluation.intervals import Resampling
from medssl.evaluation.paired.subject import Subject, load_subject
from medssl.inference.predictor import choose_device
from medssl.models.image_text_folder import INDEX
from medssl.reports.pairs import Pair, PairSet, read_pairs
from medssl.runs.digest import digest_file
from medssl.runs.tracking import TrackingConfig

Positive = Annotated[int, Field(gt=0)]


class ModelOptions(Config):
    """Which model, and where it runs."""

    model: Path
    """Folder of a finished pretraining with the method report_contrast."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs; `auto` takes a GPU when there is one."""
    trust_model: bool = False
    """Allow the folder to name components outside medssl, which are then imported: only where you
    know who wrote it."""
    tracking: TrackingConfig = TrackingConfig()
    """Where the run is recorded."""

    @property
    def model_digest(self) -> str:
        """SHA-256 (hex) of the file that has those of all others.

        Raises:
            InputError: There is none.
        """
        if not (self.model / INDEX).is_file():
            raise InputError(
                f"{self.model}: no {INDEX}, so this is not the folder of an image-text model",
                hint="give the folder of a finished pretraining with the method report_contrast",
            )
        return digest_file(self.model / INDEX)

    def subject(self, images: int | None = None, looks: int = 1) -> Subject:
        """Return the model.

        Args:
            images: Slices or series of a study that it is shown; None: as many as in training.
            looks: Views of a study whose vectors are averaged.

        Raises:
            InputError: It cannot be read.
        """
        device: torch.device = choose_device(self.device)
        return load_subject(
            self.model, device, images=images, looks=looks, trust_names=self.trust_model
        )


class StudyOptions(ModelOptions):
    """Which studies it is shown."""

    pairs: Path
    """The pairs that `medssl reports pair` made."""
    store: Path
    """The crop store that holds their volumes."""
    split: Literal["train", "val", "test", "all"] = "test"
    """Which studies."""
    images: Positive | None = None
    """Slices or series of a study that are shown; null: as many as in training."""

    def chosen(self, found: PairSet) -> tuple[Pair, ...]:
        """Return the studies of the split.

        Raises:
            InputError: There are none.
        """
        return chosen_pairs(found, self.split, self.pairs)

    def material(self) -> tuple[CropStore, PairSet]:
        """Return the store and the pairs.

        Raises:
            InputError: They are missing or damaged.
        """
        return CropStore(self.store), read_pairs(self.pairs)


class IntervalOptions(Config):
    """How sure numbers are to be."""

    resamples: Annotated[int, Field(ge=100)] = 2000
    """Bootstrap resamples behind each interval; patients are drawn, not studies."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Share of intervals that would hold the true value."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Decides the resamples."""

    def how(self) -> Resampling:
        """Return the same for the functions that draw."""
        return Resampling(resamples=self.resamples, confidence=self.confidence, seed=self.seed)


def chosen_pairs(found: PairSet, split: str, folder: Path) -> tuple[Pair, ...]:
    """Return the studies of a split, or of ``all``.

    Raises:
        InputError: There are none.
    """
    pairs = found.split(None if split == "all" else split)
    if not pairs:
        raise InputError(
            f"{folder}: no study belongs to the split {split}",
            hint="set split to train, val, test or all",
        )
    return pairs
