"""What the encoder knows of labels while it learns without them."""

import csv
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import lightning
import torch
from pydantic import Field
from torch import Tensor

from medssl.config.base import Config
from medssl.data.covering import covering_starts
from medssl.data.normalize import IntensityConfig
from medssl.data.store import CropStore
from medssl.data.views import Batch
from medssl.errors import InputError
from medssl.training.module import PretrainModule
from medssl.training.probe_scores import knn_accuracy, linear_accuracy, patient_folds
from medssl.training.recorder import NumbersFile

Positive = Annotated[int, Field(gt=0)]


class ProbeConfig(Config):
    """Labelled volumes that the encoder is asked about now and then; it never learns from them."""

    table: Path
    """CSV with the columns `volume_key` (as the store has it) and `label`: any words."""
    every_steps: Positive = 500
    """It is asked after every so many steps, and after the last."""
    k: Positive = 10
    """Neighbours that vote."""
    ridge: Annotated[float, Field(gt=0)] = 0.1
    """How much the linear map is held back."""
    folds: Annotated[int, Field(ge=2)] = 5
    """Parts that the patients are divided into; each is scored by what the others show."""
    most_crops: Positive = 4
    """Crops along each axis of a volume, at most; an embedding is the mean over them."""


@dataclass(frozen=True)
class Labels:
    """The rows of a probe's table."""

    volume_keys: list[str]
    patients: list[str]
    labels_N: Tensor
    """Numbers of the labels, which are counted in the order of their names."""


def read_labels(config: ProbeConfig, store: CropStore) -> Labels:
    """Return the labelled volumes of a store.

    Raises:
        InputError: The table cannot be read, has rows without a label, names volumes that the
            store does not have, has one label only, or fewer patients than folds.
    """
    try:
        with config.table.open(encoding="utf-8-sig", newline="") as file:  # as Excel writes it
            table = [(row["volume_key"], row["label"]) for row in csv.DictReader(file)]
    except (OSError, KeyError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{config.table}: not a table of labels ({type(error).__name__})",
            hint="a CSV file with the columns volume_key and label",
        ) from error
    if without := sum(not (label or "").strip() for _, label in table):  # a short row has None
        raise InputError(
            f"{config.table}: {without} of {len(table)} rows have no label",
            hint="give each volume its label, or take its row out",
        )
    rows = dict(table)
    check_known(config.table, rows.keys(), store)
    names = sorted(set(rows.values()))
    patients = [store.entry(key).patient_key for key in rows]
    if len(names) < 2 or len(set(patients)) < config.folds:  # noqa: PLR2004 - something to tell apart
        raise InputError(
            f"{config.table}: {len(names)} label(s) of {len(set(patients))} patient(s); there must "
            f"be two labels and {config.folds} patients at least",
            hint="label more volumes, or lower probe.folds",
        )
    labels_N = torch.tensor([names.index(label) for label in rows.values()])
    return Labels(list(rows), patients, labels_N)


def check_known(table: Path, keys: Set[str], store: CropStore) -> None:
    """Raise InputError unless the store has all volumes of a table, none of which is quoted."""
    known = {key for first in store.keys(None) for key in store.views(first)}
    if strange := keys - known:
        raise InputError(
            f"{table}: {len(strange)} of {len(keys)} volumes are not in the store",
            hint="volume_key is the store's own key of a volume",
        )


class Probe(lightning.Callback):
    """Scores frozen embeddings of labelled volumes every few steps.

    Every process embeds all of them, for where weights are shared out no one can alone.
    """

    def __init__(
        self,
        config: ProbeConfig,
        store: CropStore,
        intensity: IntensityConfig,
        file: NumbersFile,
        *,
        seed: int,
        resumed_at: int = 0,
    ) -> None:
        self.config, self.store, self.intensity, self.file = config, store, intensity, file
        self.labels = read_labels(config, store)
        self.splits = patient_folds(self.labels.patients, config.folds, seed)
        self._asked_at = resumed_at

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Batch,
        *_: Any,
    ) -> None:
        """Ask when it is time, and after the last step."""
        step, module = trainer.global_step, cast(PretrainModule, pl_module)
        due = step % self.config.every_steps == 0 or step == trainer.max_steps
        if step == self._asked_at or not due:
            return
        self._asked_at = step
        with trainer.precision_plugin.forward_context():
            z_ND = self.embed(module, batch.views_BCIJK[0].shape[1:])
        self.file.write(step, self.scores(z_ND))

    def scores(self, z_ND: Tensor) -> dict[str, float]:
        """Return both accuracies, and that of always giving the most frequent label."""
        labels_N, config = self.labels.labels_N, self.config
        return {
            "probe/knn": knn_accuracy(z_ND, labels_N, self.splits, k=config.k),
            "probe/linear": linear_accuracy(z_ND, labels_N, self.splits, ridge=config.ridge),
            "probe/majority_constant": int(labels_N.bincount().max()) / len(labels_N),
        }

    @torch.no_grad()
    def embed(self, module: PretrainModule, view_CIJK: tuple[int, ...]) -> Tensor:
        """Return ``(N, D)``: of each labelled volume the mean embedding of the crops covering it.

        Args:
            module: Holds the encoder that the training leaves; its mode stays as it was.
            view_CIJK: Channels and size of the crops that the encoder learns from.
        """
        encoder = module.method.kept_encoder
        training = encoder.training
        encoder.eval()
        rows = []
        for key in self.labels.volume_keys:
            crops = [
                encoder.embed(crop_BCIJK.to(module.device)).float().cpu()
                for crop_BCIJK in self._crops(key, view_CIJK)
            ]
            rows.append(torch.cat(crops).mean(0))
        encoder.train(training)
        return torch.stack(rows)

    def _crops(self, key: str, view_CIJK: tuple[int, ...]) -> Iterator[Tensor]:
        entry = self.store.entry(key)
        channels, *shape = view_CIJK
        size = (*shape, 1)[:3]
        for start_IJK in covering_starts(entry.shape, size, self.config.most_crops):
            stored_IJK = self.store.read(key, start_IJK, size)
            scaled_IJK = torch.from_numpy(self.intensity.normalize(stored_IJK, entry))
            yield scaled_IJK.reshape(1, 1, *shape).expand(-1, channels, *(-1,) * len(shape))
