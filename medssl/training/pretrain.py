"""The pretraining stage: a crop store and a method in, an encoder out."""

from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

import lightning
import torch
from pydantic import Field, SerializeAsAny, model_validator

from medssl.config.base import Config
from medssl.config.choice import choice
from medssl.data.dataset import DatasetConfig
from medssl.data.store import CropStore
from medssl.methods.base import Method, ReportMethod
from medssl.models.encoders.base import Encoder
from medssl.models.weights import WEIGHTS
from medssl.runs.digest import digest_file
from medssl.runs.environment import rank
from medssl.runs.processes import decided_by_first
from medssl.runs.stage import StageResult, StageRun, open_stage
from medssl.runs.tracking import TrackingConfig
from medssl.training.alarms import ConstantLossAlarm, NonFiniteAlarm
from medssl.training.checkpoint import FOLDER, BackgroundWriter, Checkpoints, latest
from medssl.training.collapse import CollapseAlarm, CollapseConfig
from medssl.training.curves import draw_curves, pretraining_panels
from medssl.training.engine import EngineConfig, quiet_lightning
from medssl.training.labelled_stream import (
    LabelledSource,
    LabelledStream,
    check_labels_wanted,
    open_stream,
)
from medssl.training.launch import joined
from medssl.training.loader_processes import ending
from medssl.training.loaders import LoaderConfig, PretrainLoaders
from medssl.training.module import PretrainModule
from medssl.training.montage import FILE as CROPS
from medssl.training.montage import Montage, MontageConfig
from medssl.training.optimizer import OptimizerConfig
from medssl.training.pair_stream import (
    PairSource,
    PairStream,
    check_reports_wanted,
    open_pairs,
    with_maps,
)
from medssl.training.plan_config import PlanConfig
from medssl.training.preemption import StopSignals, StopWhenTold, stop_signals
from medssl.training.probe import Probe, ProbeConfig, read_labels
from medssl.training.progress_bar import ProgressCallback
from medssl.training.recorder import METRICS, SPEED, Recorder, SpeedRecorder, read_metrics
from medssl.training.rehearsal import rehearse
from medssl.training.schedule import ScheduleConfig
from medssl.training.stages import gathered_state
from medssl.training.start import StartFrom, build_method
from medssl.training.text_states import keep_states

Steps = Annotated[int, Field(gt=0)]


class RhythmConfig(Config):
    """What happens every how many optimiser steps."""

    record_steps: Steps = 10
    """Numbers are recorded."""
    validate_steps: Steps = 100
    """The method is scored on unseen volumes."""
    checkpoint_steps: Steps = 50
    """The state to resume from is saved."""
    keep_checkpoints: Steps = 2
    """Saved states that stay: should the last one be damaged, the one before is taken."""


class PretrainConfig(Config):
    """Everything ``medssl pretrain`` reads."""

    store: Path
    """The crop store that `medssl prepare` wrote."""
    out: Path
    """The run folder."""
    method: Annotated[SerializeAsAny[Method.Config], choice("medssl.methods")]
    """What is learned, by the name of its file in medssl/methods."""
    encoder: Annotated[SerializeAsAny[Encoder.Config], choice("medssl.models.encoders")]
    """Which network learns it, by the name of its file in medssl/models/encoders."""
    start_from: StartFrom | None = None
    """Weights that the encoder begins with, as `medssl adapt` reads them; null for random ones."""
    data: DatasetConfig = DatasetConfig()
    """Which crops of the store."""
    labelled: LabelledSource | None = None
    """Labelled volumes beside them, for a method that learns from labels too, and for no other."""
    pairs: PairSource | None = None
    """Studies with their reports instead of crops, for a method that reads reports, and for no
    other."""
    loader: LoaderConfig = LoaderConfig()
    """How they become batches."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """The optimiser."""
    schedule: ScheduleConfig = ScheduleConfig()
    """How long."""
    engine: EngineConfig = EngineConfig()
    """On what."""
    rhythm: RhythmConfig = RhythmConfig()
    """How often things are recorded, scored and saved."""
    collapse: CollapseConfig = CollapseConfig()
    """When to warn that embeddings became too alike."""
    montage: MontageConfig = MontageConfig()
    """The picture of the first batch's crops."""
    probe: ProbeConfig | None = None
    """Labelled volumes that the encoder is asked about now and then; null for none."""
    plan: PlanConfig = PlanConfig()
    """What `--plan` assumes."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Decides initial weights, data order and everything drawn."""
    tracking: TrackingConfig = TrackingConfig()
    """Where the run is recorded."""

    @model_validator(mode="after")
    def _labels_where_wanted(self) -> Self:
        check_labels_wanted(self.method.name, self.method.labelled_patches, self.labelled)
        check_reports_wanted(self.method, self.pairs)
        return self

    @model_validator(mode="after")
    def _schedule_fits(self) -> Self:
        self.in_steps()
        return self

    def in_steps(self) -> "PretrainConfig":
        """Return the same with a schedule counted in optimiser steps."""
        samples_per_step = self.loader.volumes_per_batch * self.engine.accumulate
        schedule = self.schedule.in_steps(samples_per_step)
        return self.model_copy(update={"schedule": schedule})


class Material(NamedTuple):
    """What a training learns from."""

    store: CropStore
    labelled: LabelledStream | None
    pairs: PairStream | None


def pretrain(config: PretrainConfig, *, overwrite: bool = False) -> StageResult:
    """Pretrain an encoder, or continue where an interrupted run of the same config stopped.

    Leaves ``encoder.safetensors`` and ``encoder.json``, ``crops.png``, ``curves.png``,
    ``metrics.jsonl``, ``speed.jsonl`` and ``checkpoints/step-*.ckpt`` in ``config.out``. On the
    CPU a run resumed with as many threads ends with the same bits as one that was never
    interrupted. Of several processes only the first one writes.

    Raises:
        ConfigError: The processes cannot share the batch evenly, or the labelled data set, the
            views or the encoder do not fit the method.
        PreemptedError: SIGTERM or SIGUSR1 came; the state is saved.
        InputError: The store, a checkpoint or the labelled data set is missing, empty or damaged,
            or the weights to begin with do not fit.
        FolderError: ``config.out`` holds another run, and ``overwrite`` is off.
    """
    config.engine.check_device()
    config.engine.own_share(config.loader.volumes_per_batch, "loader.volumes_per_batch")
    rehearse(config.method, config.encoder, config.loader.volumes_per_batch)
    store = CropStore(config.store)
    labelled = open_stream(
        config.labelled, config.method.labelled_patches, store, config.data.intensity
    )
    pairs = open_pairs(
        config.pairs,
        config.method,
        store,
        config.data.intensity,
        batch_size=config.loader.volumes_per_batch,
    )
    inputs = {"store": store.digest}
    for beside in (labelled, pairs):
        inputs |= beside.inputs if beside else {}
    if config.start_from:
        config.start_from.check(config.encoder)
        inputs |= config.start_from.digests()
    if config.probe:
        read_labels(config.probe, store)  # before anything is left
        inputs |= {"probe": digest_file(config.probe.table)}
    with (
        stop_signals() as signals,
        joined(gpu=config.engine.gpu),
        open_stage(
            "pretrain",
            config.out,
            config,
            inputs=inputs,
            tracking=config.tracking,
            overwrite=overwrite,
        ) as run,
    ):
        if decided_by_first(lambda: run.previous is not None):
            return run.previous or _seen_elsewhere(config)
        config = config.in_steps()
        material = Material(store, labelled, pairs)
        module = _fit(config, _build(config), material, run, signals)
        method = _whole(config, module.method)
        if rank() > 0:
            return _seen_elsewhere(config)
        method.save(config.out, **_about(config, store))
        return _finish(run, config, module)


def _seen_elsewhere(config: PretrainConfig) -> StageResult:
    """Return the empty result of a process that is not the first one."""
    return StageResult("pretrain", config.out, {}, {})


def _build(config: PretrainConfig) -> Method:
    torch.manual_seed(config.seed)
    return build_method(config.method, config.encoder, config.start_from)


def _whole(config: PretrainConfig, method: Method) -> Method:
    """Return the method with whole weights, where the processes kept a part of them each."""
    if not config.engine.sharded:
        return method
    whole = _build(config)
    whole.load_state_dict(gathered_state(method))
    return whole


def _fit(
    config: PretrainConfig,
    method: Method,
    material: Material,
    run: StageRun,
    signals: StopSignals,
) -> PretrainModule:
    folder = config.out / FOLDER
    resume = decided_by_first(lambda: latest(folder))
    module = PretrainModule(
        method,
        optimizer=config.optimizer,
        schedule=config.schedule,
        engine=config.engine,
        seed=config.seed,
    )
    accumulate, store = config.engine.accumulate, material.store
    pairs = material.pairs
    if pairs is not None and isinstance(method, ReportMethod):
        method.know_sentences(pairs.text.sentences)
        pairs = with_maps(pairs, config.out)
        if method.text.frozen:
            pairs = keep_states(method, pairs, config.out)
    loaders = PretrainLoaders(
        store,
        method.views,
        config.data,
        config.loader,
        batches=range(resume.steps * accumulate, config.schedule.steps * accumulate),
        seed=config.seed,
        place=config.engine.place,
        labelled=material.labelled,
        pairs=pairs,
    )
    writer = BackgroundWriter(keep=config.rhythm.keep_checkpoints)
    saving = Checkpoints(folder, writer, every_steps=config.rhythm.checkpoint_steps)
    stopping = StopWhenTold(signals, saving, requeue=config.engine.requeue)
    with quiet_lightning():
        trainer = config.engine.trainer(
            steps=config.schedule.steps,
            callbacks=[*_callbacks(config, store, run, saving, resume.steps), stopping],
            clip_norm=config.optimizer.clip_norm,
            plugins=[writer],
            val_check_interval=config.rhythm.validate_steps * accumulate,
            check_val_every_n_epoch=None,
        )
        training, validation = loaders.training(), loaders.validation()
        with ending(training, validation):
            trainer.fit(module, training, validation, ckpt_path=resume.path, weights_only=True)
    return module


def _callbacks(
    config: PretrainConfig, store: CropStore, run: StageRun, saving: Checkpoints, done: int
) -> list[lightning.Callback]:
    steps, every_steps = config.schedule.steps, config.rhythm.record_steps
    record: dict[str, int] = {"every_steps": every_steps, "resumed_at": done}
    recorder = Recorder(config.out / METRICS, run.tracker, **record)
    probes = [
        Probe(probe, store, config.data.intensity, recorder.file, seed=config.seed, resumed_at=done)
        for probe in (config.probe,)
        if probe is not None
    ]
    return [
        NonFiniteAlarm(config.out),
        CollapseAlarm(config.collapse, **record),
        ConstantLossAlarm(config.collapse, warmup_steps=config.schedule.warmup_steps, **record),
        Montage(config.out / CROPS, config.montage, run.tracker),
        recorder,
        *probes,
        ProgressCallback("pretrain", steps=steps, **record),
        saving,
        SpeedRecorder(config.out / SPEED, run.tracker, **record),
    ]


def _about(config: PretrainConfig, store: CropStore) -> dict[str, Any]:
    """What someone who only has the encoder needs to feed it as it was trained."""
    return {
        "method": config.method.model_dump(mode="json"),
        "intensity": config.data.intensity.model_dump(mode="json"),
        "spacing_mm": list(store.spacing_mm),
        "store_digest": store.digest,
        "steps": config.schedule.steps,
        "seed": config.seed,
        "started_from": config.start_from.origin() if config.start_from else None,
    }


def _finish(run: StageRun, config: PretrainConfig, module: PretrainModule) -> StageResult:
    files = [config.out / name for name in (METRICS, SPEED)]
    rows = [row for path in files if path.is_file() for row in read_metrics(path)]
    last: dict[str, float] = {}
    for row in rows:
        last.update(row)
    draw_curves(config.out / "curves.png", rows, pretraining_panels(last))
    validated = sorted(name for name in last if name.startswith("val/"))
    parameters = sum(p.numel() for p in module.method.encoder.parameters())
    return run.finish(
        summary={
            "steps": config.schedule.steps,
            "encoder_parameters": parameters,
            **{name: round(last[name], 4) for name in ["loss", *validated] if name in last},
        },
        look_at={"crops": CROPS, "curves": "curves.png", "encoder": WEIGHTS, "numbers": METRICS},
        stays=[CROPS],
        outputs={"encoder": digest_file(config.out / WEIGHTS)},
    )
