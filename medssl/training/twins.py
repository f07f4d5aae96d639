"""A task model and its twin from scratch: alike in everything but what was pretrained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from medssl.errors import InputError
from medssl.labelled.cases import LabelledCase, LabelledSet, Part
from medssl.models.encoders.base import Encoder
from medssl.models.weights import WEIGHTS as ENCODER_WEIGHTS
from medssl.models.weights import load_decoder, load_encoder
from medssl.runs.digest import digest_file
from medssl.runs.folder import write_json
from medssl.runs.tracking import Tracker
from medssl.tasks._objective import Objective
from medssl.tasks.base import Spec, Task
from medssl.tasks.classification import Classification
from medssl.tasks.segmentation import Segmentation
from medssl.training.checkpoint import FOLDER, BackgroundWriter, Checkpoints, latest
from medssl.training.curves import draw_curves
from medssl.training.engine import quiet_lightning
from medssl.training.finetune_config import FinetuneConfig, Member
from medssl.training.loader_processes import Loader, ending
from medssl.training.patches import (
    Patch,
    PatchDataset,
    labelled_loader,
    prepare_volumes,
    with_annotated,
)
from medssl.training.preemption import StopWhenTold, stop_signals
from medssl.training.progress_bar import ProgressCallback
from medssl.training.recorder import Recorder, read_metrics
from medssl.training.reference import Reference, fit_reference, scan_vector
from medssl.training.strategies.base import Strategy
from medssl.training.strategies.full import Full
from medssl.training.supervised import BestByValidation, SupervisedModule
from medssl.training.task_model import (
    DESCRIPTION,
    WEIGHTS,
    ModelDescription,
    read_description,
    save_task_model,
)
from medssl.training.whole_volumes import WholeVolumeDataset, prepare_whole

VALIDATION: Final = "validation.json"
"""Of each member: the scores of every validation."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the twins share."""

    config: FinetuneConfig
    labelled: LabelledSet
    task: Task
    cases: Mapping[Part, Sequence[LabelledCase]]

    @cached_property
    def train(self) -> list[Patch]:
        """The volumes that train, as the network sees them; kept in memory."""
        return self._prepared("train")

    @cached_property
    def val(self) -> list[Patch]:
        """Those that choose the weights."""
        return self._prepared("val")

    def patients(self, part: Part) -> list[str]:
        """Return whose each volume of a part is."""
        return [case.patient_key for case in self.cases[part]]

    @property
    def specs(self) -> list[Spec]:
        """Transforms from file to network input."""
        size = self.config.patch_voxels
        return [*self.config.preprocessing.specs(), *self.task.input_specs(size)]

    def _prepared(self, part: Part) -> list[Patch]:
        cases, modality = self.cases[part], self.labelled.modality
        told = f"Preparing volumes ({part})"
        if self.task.kind == "segmentation":
            volumes = prepare_volumes(cases, self.specs, modality, told)
            return with_annotated(volumes, cases, self.task)
        return prepare_whole(cases, self.specs, self.task, modality, told)


class Built(NamedTuple):
    """A member before its first step."""

    network: nn.Module
    encoder: Encoder
    """The one inside it."""
    objective: Objective
    definition: Spec | None
    """How MONAI builds the network, where it has it."""


def build_network(config: FinetuneConfig, member: Member, task: Task) -> Built:
    """Return a member's network before its first step, and what is minimised.

    Encoder and decoder are drawn from separate seeds: whether they are drawn or read, all else
    that is drawn begins with the same weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if config.encoder_from is None:
            encoder: Encoder = config.encoder.build()  # type: ignore[union-attr]
        else:
            encoder, _ = load_encoder(config.encoder_from, trust_names=config.trust_encoder)
            if member == "scratch":
                encoder = encoder.config.build()  # type: ignore[union-attr,operator]
        read = None
        wanted = task.kind == "segmentation" and config.pretrained_decoder
        if member == "pretrained" and config.encoder_from is not None and wanted:
            read = load_decoder(config.encoder_from, encoder)
        torch.manual_seed(config.seed + 1)
        decoder = encoder.decoder() if task.needs_decoder else None
        network, definition = task.network(encoder, decoder)
        if read is not None:  # the twin's network first: how far its decoder draws is its own
            decoder, twin = read, network
            network, definition = task.network(encoder, decoder)
            _copy_rest(twin, network, (encoder, decoder))
        torch.manual_seed(config.seed + 2)
        objective = task.objective(network, encoder, decoder)
    return Built(network, encoder, objective, definition)


def _copy_rest(twin: nn.Module, network: nn.Module, given: Sequence[nn.Module]) -> None:
    """Set what of a network is in none of the ``given`` parts, such as its head, to its twin's."""
    read = {_place(value) for part in given for value in part.state_dict().values()}
    theirs = twin.state_dict()
    for name, value in network.state_dict().items():
        if _place(value) not in read:
            value.copy_(theirs[name])


def strategy_of(config: FinetuneConfig, member: Member) -> Strategy:
    """Return how a member is adapted: what begins at random has nothing to be careful with."""
    whole = config.encoder_from is not None and member == "scratch"
    strategy: Strategy = (Full.Config() if whole else config.strategy).build()
    return strategy


def count_loaded(encoder: Encoder, network: nn.Module) -> dict[str, int]:
    """Return how many of the encoder's tensors are in the network, and how many are not.

    Raises:
        InputError: Not all of them are: the network would not be a fine-tuned encoder.
    """
    inside = {_place(value) for value in network.state_dict().values()}
    loaded = [_place(value) in inside for value in encoder.state_dict().values()]
    unused = loaded.count(False)
    if unused or not loaded:
        raise InputError(
            f"{unused} of the encoder's {len(loaded)} tensors are not part of the network",
            hint="the encoder's `segmenter` must use the encoder itself",
        )
    return {"encoder_tensors_loaded": len(loaded), "encoder_tensors_unused": unused}


def _place(tensor: torch.Tensor) -> tuple[int, tuple[int, ...]]:
    return tensor.data_ptr(), tuple(tensor.shape)


def train_member(plan: Plan, member: Member, tracker: Tracker) -> dict[str, Any]:
    """Train one of the twins, or continue with it, and return what to say about it.

    A member that was finished before an interruption is left as it is.
    """
    folder = plan.config.out / member
    if (folder / WEIGHTS).is_file() and (folder / DESCRIPTION).is_file():  # before an interruption
        trained = read_description(folder).training
        return _summary_of(member, trained)
    built = build_network(plan.config, member, plan.task)
    network, encoder = built.network, built.encoder
    loaded = count_loaded(encoder, network) if member == "pretrained" else {}
    strategy = strategy_of(plan.config, member)
    best = _fit(plan, member, built, strategy, _Prefixed(tracker, member))
    trained = {
        "start": member,
        "seed": plan.config.seed,
        "steps": plan.config.schedule.steps,
        "strategy": strategy.config.name,
        "train_cases": len(plan.cases["train"]),
        "monitor": plan.task.monitor,
        "best": best.best,
        "dataset": plan.labelled.name,
        "dataset_licence": plan.labelled.licence,
        "dataset_digest": plan.labelled.digest,
        **loaded,
    }
    if plan.config.body_part:
        trained["body_part"] = plan.config.body_part
    if member == "pretrained" and plan.config.encoder_from is not None:
        trained["encoder_digest"] = digest_file(plan.config.encoder_from / ENCODER_WEIGHTS)
    _draw(folder, best)
    best.restore_best(network)
    strategy.finished(network, encoder)
    reference = _reference(plan, encoder.eval())
    save_task_model(folder, network, _describe(plan, built, trained), reference)
    return _summary_of(member, trained)


def _reference(plan: Plan, encoder: Encoder) -> Reference | None:
    """Return how the training scans look to the trained encoder."""
    device = next(encoder.parameters()).device
    vectors = [
        scan_vector(encoder, patch["image"], plan.config.patch_voxels, device)
        for patch in plan.train
    ]
    return fit_reference(np.array(vectors))


def _summary_of(member: Member, trained: dict[str, Any]) -> dict[str, Any]:
    monitor = trained["monitor"]
    best = trained["best"] or {monitor: float("nan")}
    kept = {f"{member}_{monitor.replace('/', '_')}": round(best[monitor], 4)}
    if trained["best"]:
        kept[f"{member}_best_step"] = int(best["step"])
    return kept | {k: v for k, v in trained.items() if k.startswith("encoder_tensors")}


def _fit(
    plan: Plan,
    member: Member,
    built: Built,
    strategy: Strategy,
    tracker: Tracker,
) -> BestByValidation:
    config, folder = plan.config, plan.config.out / member
    resume = latest(folder / FOLDER)
    module = SupervisedModule(
        built.network, plan.task, built.encoder, strategy, built.objective, config
    )
    best = BestByValidation(
        folder / FOLDER,
        plan.val,
        plan.patients("val"),
        tracker,
        monitor=plan.task.monitor,
        config=config,
    )
    callbacks = [
        Recorder(
            folder / "metrics.jsonl",
            tracker,
            every_steps=config.rhythm.record_steps,
            resumed_at=resume.steps,
        ),
        ProgressCallback(
            f"finetune {member}", steps=config.schedule.steps, resumed_at=resume.steps
        ),
        best,
    ]
    writer = BackgroundWriter(keep=config.rhythm.keep_checkpoints)
    saving = Checkpoints(folder / FOLDER, writer, every_steps=config.rhythm.checkpoint_steps)
    with stop_signals() as signals, quiet_lightning():
        stopping = StopWhenTold(signals, saving, requeue=config.engine.requeue)
        trainer = config.engine.trainer(
            steps=config.schedule.steps,
            callbacks=[*callbacks, saving, stopping],
            clip_norm=config.optimizer.clip_norm,
            plugins=[writer],
        )
        loader = training_batches(plan, start=resume.steps * config.engine.accumulate)
        with ending(loader):
            trainer.fit(module, loader, ckpt_path=resume.path, weights_only=True)
    module.check_finite()
    return best


def training_batches(plan: Plan, *, start: int) -> Loader[Patch]:
    """Return the training batches from number ``start`` on: the same ones for both twins."""
    config = plan.config
    shared: dict[str, int] = {"batch_size": config.patches_per_step, "seed": config.seed}
    dataset: Dataset[Patch]
    if plan.task.kind == "segmentation":
        ignored = plan.task.config.ignore_label if isinstance(plan.task, Segmentation) else None
        dataset = PatchDataset(
            plan.train, config.augment, config.patch_voxels, ignore_label=ignored, **shared
        )
    else:
        balanced = isinstance(plan.task, Classification) and plan.task.draws_classes_equally
        dataset = WholeVolumeDataset(plan.train, config.augment, balanced=balanced, **shared)
    return labelled_loader(
        dataset,
        batch_size=config.patches_per_step,
        batches=config.schedule.steps * config.engine.accumulate,
        start=start,
        workers=config.workers,
    )


def _describe(plan: Plan, built: Built, trained: dict[str, Any]) -> ModelDescription:
    config, labelled, task = plan.config, plan.labelled, plan.task
    return ModelDescription(
        title=f"{labelled.name} {task.kind}: {', '.join(task.answers)}",
        task=task.config.model_dump(mode="json"),
        encoder=built.encoder.config.model_dump(mode="json"),  # type: ignore[union-attr,operator]
        network_def=built.definition,
        labels=task.labels,
        modality=labelled.modality,
        spacing_mm=config.preprocessing.spacing_mm,
        patch_voxels=config.patch_voxels,
        preprocessing=tuple(plan.specs),
        inferer=task.inferer_spec(config.patch_voxels),
        postprocessing=tuple(task.postprocessing_specs()),
        training=trained,
    )


class _Prefixed(Tracker):
    """Names the twins' numbers apart in their one record."""

    def __init__(self, tracker: Tracker, member: Member) -> None:
        self._tracker, self._member = tracker, member

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Record numbers as ``<member>/<name>``."""
        named = {f"{self._member}/{name}": value for name, value in metrics.items()}
        self._tracker.log_metrics(named, step=step)


def _rows(folder: Path, best: BestByValidation) -> list[dict[str, float]]:
    return [*read_metrics(folder / "metrics.jsonl"), *best.history]


def _draw(folder: Path, best: BestByValidation) -> None:
    rows = _rows(folder, best)
    scores = sorted({name for row in best.history for name in row if name.startswith("val/")})
    draw_curves(folder / "curves.png", rows, {"training loss": ["loss"], "validation": scores})
    write_json(folder / VALIDATION, best.history)
