"""The Lightning side of a method: optimiser, schedule, seeds, logging; it must not know them."""

from typing import Any

import lightning
import torch
from torch import Tensor

from medssl.data.views import Batch, Labelled, Texts
from medssl.methods.base import Method
from medssl.models.norms import share_batch_norms
from medssl.models.short_axes import lengthen_short_axes
from medssl.training.engine import EngineConfig, seed_batch
from medssl.training.optimizer import OptimizerConfig
from medssl.training.schedule import ScheduleConfig
from medssl.training.stages import (
    checkpoint_stages,
    compile_stages,
    keep_channels_last,
    memory_format,
    shard,
)


class PretrainModule(lightning.LightningModule):
    """Runs a method's hooks at the right moments, and seeds every batch by its number alone."""

    def __init__(
        self,
        method: Method,
        *,
        optimizer: OptimizerConfig,
        schedule: ScheduleConfig,
        engine: EngineConfig,
        seed: int,
    ) -> None:
        super().__init__()
        self.method = method
        self.optimizer, self.schedule, self.engine, self.seed = optimizer, schedule, engine, seed
        self.place = engine.place
        self.last_z_ND: Tensor | None = None
        self._prepare()

    def _prepare(self) -> None:
        if self.engine.rounds_on_cpu:
            lengthen_short_axes(self.method)
        if self.engine.channels_last and not self.engine.sharded:  # only plain ones can be divided
            keep_channels_last(self.method)
        if self.place.world > 1:
            share_batch_norms(self.method)
        if self.engine.checkpoint_activations:
            checkpoint_stages(self.method)
        if self.engine.compile:
            compile_stages(self.method)

    def configure_model(self) -> None:
        """Share out the weights, where the processes keep a part of them each."""
        if self.engine.sharded and self.device_mesh is not None:
            shard(self.method, self.device_mesh["data_parallel"], calls=("loss",))

    @property
    def progress(self) -> float:
        """From 0 at the first step to nearly 1 at the last: the share that is done before it."""
        return self.global_step / self.schedule.steps

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, _: int) -> Batch:
        """Move the views and patches, in the memory format of the encoder, and the geometry."""
        views = [self._moved(x, device) for x in batch.views_BCIJK]
        geometry = {k: v.to(device, non_blocking=True) for k, v in batch.geometry.items()}
        return Batch(
            views, geometry, self._moved_labels(batch, device), _moved_texts(batch, device)
        )

    def _moved_labels(self, batch: Batch, device: torch.device) -> Labelled | None:
        if batch.labelled is None:
            return None
        image_BCIJK, label_BIJK = batch.labelled
        label_BIJK = label_BIJK.to(device, non_blocking=True)
        return Labelled(self._moved(image_BCIJK, device), label_BIJK)

    def _moved(self, x: Tensor, device: torch.device) -> Tensor:
        layout = memory_format(x, channels_last=self.engine.channels_last)
        return x.to(device, memory_format=layout, non_blocking=True)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed this batch; before the first batch of an optimiser step, update slow copies."""
        seed_batch(self.seed, batch_idx, self.place.rank)
        if batch_idx % self.engine.accumulate == 0:
            self.method.before_step(progress=self.progress)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        output = self.method.loss(batch, progress=self.progress)
        self.last_z_ND = None if output.z_ND is None else output.z_ND.detach()
        numbers = {"loss": output.total, **output.parts, **output.scores}
        self.log_dict(numbers, sync_dist=True, batch_size=1)
        return output.total

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        output = self.method.loss(batch, progress=self.progress)
        constants = {f"{k}_constant": v for k, v in self.method.constant_loss(batch).items()}
        numbers: dict[str, Any] = {
            "loss": output.total,
            **output.parts,
            **output.scores,
            **constants,
        }
        self.log_dict(
            {f"val/{name}": value for name, value in numbers.items()},
            on_step=False,
            on_epoch=True,
            sync_dist=True,
            batch_size=1,
        )

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer.build(self.method, self.method.encoder)
        scheduler = {"scheduler": self.schedule.build(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


def _moved_texts(batch: Batch, device: torch.device) -> Texts | None:
    if batch.texts is None:
        return None
    return Texts(*(part.to(device, non_blocking=True) for part in batch.texts))
