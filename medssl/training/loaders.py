"""From a crop store to the loaders of a training that may have begun earlier."""

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Annotated, Any, Literal, cast

import torch
from pydantic import Field
from torch.utils.data import Dataset

from medssl.config.base import Config
from medssl.data.dataset import CropDataset, DatasetConfig
from medssl.data.sampling import BatchIndices
from medssl.data.store import CropStore
from medssl.data.study_views import StudyViews
from medssl.data.views import Batch, ViewSpec
from medssl.training.labelled_stream import LabelledStream, PairedCollate
from medssl.training.launch import Place
from medssl.training.loader_processes import Loader
from medssl.training.pair_stream import PairStream
from medssl.training.threaded import ThreadedBatches


class LoaderConfig(Config):
    """How batches are put together."""

    volumes_per_batch: Annotated[int, Field(gt=0)] = 4
    """Volumes in one batch, of all processes together, which share it evenly; each volume gives as
    many views as the method asks for."""
    workers: Annotated[int, Field(ge=0)] = 1
    """How many read and cut crops beside each training process; 0 for none."""
    worker_kind: Literal["thread", "process"] = "thread"
    """What they are. Threads hand over nothing and start at once; processes disturb a training less
    whose own Python must not wait, neither for decoding nor for many small steps, such as words
    into tokens."""
    validation_batches: Annotated[int, Field(gt=0)] = 8
    """Batches of unseen volumes that every validation uses, the same ones each time."""


@dataclass(frozen=True)
class PretrainLoaders:
    """Training batches from where the last checkpoint ended, and fixed validation batches."""

    store: CropStore
    views: ViewSpec[Any]
    dataset: DatasetConfig
    loader: LoaderConfig
    _: KW_ONLY
    batches: range
    seed: int
    place: Place
    labelled: LabelledStream | None = None
    """Patches that come beside the crops, for a method that learns from labels too."""
    pairs: PairStream | None = None
    """Studies with their reports that come in place of crops, for a method that reads reports."""

    def training(self) -> Loader[Batch]:
        """Return the remaining training batches."""
        return self._loader(self.views, self.dataset, self.batches, self.seed)

    def validation(self) -> Loader[Batch] | None:
        """Return the validation batches, not augmented; None when the store has no `val`."""
        if not (self.pairs.studies("val") if self.pairs else self.store.keys("val")):
            return None
        dataset = self.dataset.model_copy(update={"split": "val"})
        batches = range(self.loader.validation_batches)
        return self._loader(self.views.unchanged(), dataset, batches, self.seed + 1)

    def _loader(
        self, views: ViewSpec[Any], config: DatasetConfig, batches: range, seed: int
    ) -> Loader[Batch]:
        size = self.loader.volumes_per_batch
        part: Literal["train", "val"] = "val" if config.split == "val" else "train"
        if self.pairs is not None and part == "val":  # as many as there are, shared evenly
            size = min(size, len(self.pairs.studies(part)))
            size = max(size - size % self.place.world, self.place.world)
        samples, collate = self._samples(views, config, part, batches.stop * size, size, seed)
        indices = BatchIndices(
            batch_size=size,
            total_batches=batches.stop,
            start_batch=batches.start,
            part=self.place.rank,
            parts=self.place.world,
        )
        workers, pin = self.loader.workers, torch.cuda.is_available()
        if workers and self.loader.worker_kind == "thread":
            threaded = ThreadedBatches(samples, indices, collate, threads=workers)
            return Loader(
                threaded, workers=0, batch_size=None, collate_fn=_as_it_is, pin_memory=pin
            )
        return Loader(
            cast(Dataset[Batch], samples),  # what collate makes of its samples
            workers=workers,
            batch_sampler=indices,
            collate_fn=collate,
            pin_memory=pin,
        )

    def _samples(
        self,
        views: ViewSpec[Any],
        config: DatasetConfig,
        part: Literal["train", "val"],
        samples: int,
        batch_size: int,
        seed: int,
    ) -> tuple[Dataset[Any], Callable[[Sequence[Any]], Batch]]:
        """Return what a loader reads, and what makes a batch of it."""
        order: dict[str, int] = {"batch_size": batch_size, "seed": seed}
        if self.pairs is not None:
            return self.pairs.open(cast(StudyViews, views), part, **order)
        crops = CropDataset(self.store, views, config, samples=samples, **order)
        if self.labelled is not None:
            return self.labelled.pair(crops, part, **order), PairedCollate(views)
        return crops, views.collate


def _as_it_is(batch: Any) -> Any:
    return batch
