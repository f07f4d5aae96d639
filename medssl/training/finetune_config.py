"""What ``medssl finetune`` is told."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SerializeAsAny, model_validator

from medssl.config.base import Config
from medssl.config.choice import choice
from medssl.data.preprocessing import PreprocessingConfig
from medssl.io.deidentify import known_body_part
from medssl.labelled.splits import LabelledSplitConfig
from medssl.models.encoders.base import Encoder
from medssl.runs.tracking import TrackingConfig
from medssl.tasks.base import Task
from medssl.tasks.segmentation import Segmentation
from medssl.training.engine import EngineConfig
from medssl.training.optimizer import OptimizerConfig
from medssl.training.patches import PatchAugmentConfig
from medssl.training.pretrain import RhythmConfig
from medssl.training.schedule import ScheduleConfig
from medssl.training.strategies.base import Strategy
from medssl.training.strategies.full import Full

Member = Literal["pretrained", "scratch"]
Positive = Annotated[int, Field(gt=0)]


class FinetuneConfig(Config):
    """Everything ``medssl finetune`` reads."""

    dataset: Path
    """The labelled data set: `dataset.json` of the Medical Segmentation Decathlon, folder of an
    nnU-Net raw data set, table (CSV) of images with labels, or folder of DICOM SEG and series."""
    out: Path
    """The run folder."""
    encoder_from: Path | None = None
    """Folder of a finished pretraining, or of an exported encoder; null to train from scratch."""
    pretrained_decoder: bool = True
    """Begin with the decoder, too, where the pretraining trained one; the twin never does."""
    trust_encoder: bool = False
    """Allow that folder to name an encoder outside medssl, which is then imported: only where
    you know who wrote it."""
    encoder: Annotated[SerializeAsAny[Encoder.Config], choice("medssl.models.encoders")] | None = (
        None
    )
    """The encoder to train from scratch, when `encoder_from` is null."""
    from_scratch_twin: bool = True
    """Also train the same network from scratch, for comparison."""
    task: Annotated[SerializeAsAny[Task.Config], choice("medssl.tasks")] = Segmentation.Config()
    """What is learned, by the name of its file in medssl/tasks."""
    body_part: Annotated[str | None, AfterValidator(known_body_part)] = None
    """Which part of the body the volumes show, such as chest; a prediction then chooses among
    several series by it."""
    preprocessing: PreprocessingConfig
    """The grid and the intensities the network sees."""
    patch_voxels: tuple[Positive, Positive, Positive] = (96, 96, 96)
    """Size of a training patch, or of a whole volume for tasks about those; also what the trained
    network is given at once."""
    patches_per_step: Positive = 2
    """Patches, or whole volumes, in one batch, of different volumes where there are enough."""
    strategy: Annotated[SerializeAsAny[Strategy.Config], choice("medssl.training.strategies")] = (
        Full.Config()
    )
    """Which weights train, and when; the twin from scratch always trains all of them."""
    patience: Positive | None = None
    """Validations without a better score after which the training ends; null: it never does."""
    augment: PatchAugmentConfig = PatchAugmentConfig()
    """What is changed at random about a patch."""
    splits: LabelledSplitConfig = LabelledSplitConfig()
    """Which cases train, validate and test."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """The optimiser, of encoder and decoder alike."""
    schedule: ScheduleConfig = ScheduleConfig()
    """How long, for each of the two."""
    engine: EngineConfig = EngineConfig()
    """On what."""
    rhythm: RhythmConfig = RhythmConfig()
    """How often things are recorded, scored and saved."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that cut patches beside the training; 0 for none."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Decides first weights, data order and everything drawn."""
    tracking: TrackingConfig = TrackingConfig()
    """Where the run is recorded."""

    @model_validator(mode="after")
    def _one_encoder(self) -> Self:
        if (self.encoder_from is None) == (self.encoder is None):
            raise ValueError(
                "set either encoder_from (a pretrained encoder's folder) or encoder (to train "
                "from scratch), not both and not neither"
            )
        return self

    @model_validator(mode="after")
    def _one_process(self) -> Self:
        if self.engine.devices != 1:
            raise ValueError("fine-tuning runs on one device: set engine.devices to 1")
        self.in_steps()
        return self

    def in_steps(self) -> "FinetuneConfig":
        """Return the same with a schedule counted in optimiser steps."""
        samples_per_step = self.patches_per_step * self.engine.accumulate
        schedule = self.schedule.in_steps(samples_per_step)
        return self.model_copy(update={"schedule": schedule})

    @property
    def members(self) -> tuple[Member, ...]:
        """What is trained, in order; the names of the subfolders of the run."""
        if self.encoder_from is None:
            return ("scratch",)
        return ("pretrained", "scratch") if self.from_scratch_twin else ("pretrained",)
