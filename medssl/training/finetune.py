"""The finetune stage: an encoder and labelled volumes in, a task model and its twin out.

The twin is the same network trained from scratch. Both share the seed, the patches and their
order, the number of steps and all first weights but those that were pretrained: the encoder's,
and the decoder's where the pretraining left one. So a difference in the result comes from
pretraining.
"""

import logging
from functools import partial
from typing import Any

import torch

from medssl.errors import ConfigError
from medssl.labelled.cases import PARTS, LabelledSet
from medssl.labelled.read import read_labelled
from medssl.labelled.splits import split_cases
from medssl.models.encoders.base import Encoder
from medssl.models.weights import WEIGHTS as ENCODER_WEIGHTS
from medssl.models.weights import load_encoder
from medssl.runs.digest import digest_file
from medssl.runs.folder import write_json
from medssl.runs.stage import StageResult, StageRun, open_stage
from medssl.tasks.base import Task
from medssl.training.finetune_config import FinetuneConfig
from medssl.training.reference import scan_vector
from medssl.training.rehearsal import Arithmetic, rehearsed
from medssl.training.strategies.base import Strategy
from medssl.training.task_model import WEIGHTS
from medssl.training.task_package import package_of
from medssl.training.tasks import build_task
from medssl.training.twins import Built, Plan, build_network, strategy_of, train_member

__all__ = ["FinetuneConfig", "finetune"]

_log = logging.getLogger(__name__)


def finetune(config: FinetuneConfig, *, overwrite: bool = False) -> StageResult:
    """Train a task model, and its twin from scratch, or continue where an interrupted run stopped.

    Leaves, for ``pretrained`` and ``scratch``, a folder with ``model.safetensors``,
    ``model.json``, ``curves.png`` and ``checkpoints/step-*.ckpt`` in ``config.out``, and
    ``splits.json`` beside them. On the CPU a run resumed with as many threads ends with the same
    bits as one that was never interrupted.

    Raises:
        InputError: The data set or the encoder cannot be used; all problems of the data at once.
        ConfigError: The patch or the split does not fit the network or the data.
        TrainingError: The training diverged.
        FolderError: ``config.out`` holds another run, and ``overwrite`` is off.
    """
    config.engine.check_device()
    labelled = read_labelled(config.dataset)
    inputs = {"dataset": labelled.digest}
    if config.encoder_from is not None:
        _, about = load_encoder(config.encoder_from, trust_names=config.trust_encoder)
        _warn_of_other_intensities(config, about)
        inputs["encoder"] = digest_file(config.encoder_from / ENCODER_WEIGHTS)
    check_fit(config, labelled)  # before anything is left
    with open_stage(
        "finetune",
        config.out,
        config,
        inputs=inputs,
        tracking=config.tracking,
        overwrite=overwrite,
    ) as run:
        if run.previous:
            return run.previous
        plan, summary = make_plan(config, labelled)
        for member in config.members:
            summary |= train_member(plan, member, run.tracker)
            folder = config.out / member
            run.tracker.log_model(member, folder, package_of(folder))
        return _finish(run, config, summary)


def check_fit(config: FinetuneConfig, labelled: LabelledSet) -> None:
    """See whether set, split, task and patch fit each other, and take a forward pass on noise.

    Raises:
        ConfigError: They do not.
    """
    parts = split_cases(labelled.cases, config.splits, folds=labelled.folds)
    task = build_task(config, labelled, parts["train"])
    for member in config.members:
        built, strategy = build_network(config, member, task), strategy_of(config, member)
        _check_axes(task, built.encoder)
        strategy.prepare(built.network, built.encoder, seed=config.seed)
        _check_size(config, built.encoder)
        _rehearse(config, task, built, strategy)


def _check_axes(task: Task, encoder: Encoder) -> None:
    if task.kind == "segmentation" and encoder.dims == 2:  # noqa: PLR2004 - slices
        raise ConfigError(
            "a segmentation is learned on patches of volumes, but this encoder reads slices "
            "(its dims is 2)",
            hint="choose an encoder whose dims is 3; one of slices serves classification and "
            "regression",
        )


def _check_size(config: FinetuneConfig, encoder: Encoder) -> None:
    factor = max(encoder.strides)
    sizes = config.patch_voxels[: encoder.dims]
    if any(size % factor for size in sizes):
        raise ConfigError(
            f"patch_voxels is {list(config.patch_voxels)}, but this encoder halves its input "
            f"until one voxel spans {factor}",
            hint=f"make every size a multiple of {factor}",
        )


def _rehearse(config: FinetuneConfig, task: Task, built: Built, strategy: Strategy) -> None:
    """Take a forward pass on noise, to see whether network and patches fit."""
    rehearsed(
        partial(_forward, config, task, built, strategy),
        f"this network cannot take a step on patch_voxels {list(config.patch_voxels)}, "
        f"{config.patches_per_step} at once",
        hint="choose a larger patch_voxels, or an encoder of fewer stages; patches have three "
        "axes, slices two (the encoder's dims)",
    )


@torch.no_grad()
def _forward(
    config: FinetuneConfig,
    task: Task,
    built: Built,
    strategy: Strategy,
    arithmetic: Arithmetic,
) -> None:
    """Do what a run will: a step, when all that ever trains does, and the look at a scan."""
    network, encoder, steps = built.network, built.encoder, config.in_steps().schedule.steps
    shape = (config.patches_per_step, 1, *config.patch_voxels)
    image_B1IJK, label_B1IJK = torch.rand(shape), torch.zeros(shape, dtype=torch.uint8)
    with arithmetic():
        scan_vector(encoder.eval(), image_B1IJK[0], config.patch_voxels, image_B1IJK.device)
        network.train()
        strategy.before_step(encoder, steps - 1, steps)
        if task.kind == "segmentation":
            built.objective({"image": image_B1IJK, "label": label_B1IJK})
        else:  # what a loss makes of targets depends on which they are
            network(image_B1IJK)


def make_plan(config: FinetuneConfig, labelled: LabelledSet) -> tuple[Plan, dict[str, Any]]:
    """Return what the twins share, and how many cases each part has; leaves ``splits.json``."""
    parts = split_cases(labelled.cases, config.splits, folds=labelled.folds)
    task = build_task(config, labelled, parts["train"])
    write_json(
        config.out / "splits.json",
        {"dataset": labelled.name, "digest": labelled.digest, "cases": parts},
    )
    plan = Plan(
        config=config.in_steps(),
        labelled=labelled,
        task=task,
        cases={part: [labelled.case(key) for key in parts[part]] for part in PARTS},
    )
    return plan, {f"{part}_cases": len(keys) for part, keys in parts.items()}


def _warn_of_other_intensities(config: FinetuneConfig, about: dict[str, Any]) -> None:
    wanted = config.preprocessing.intensity.model_dump(mode="json")
    trained = about.get("intensity", {}).get(wanted["name"])
    if trained is not None and trained != wanted:
        _log.warning(
            "The encoder was pretrained with the intensities %s, this finetuning uses %s: its "
            "features may not mean much.", trained, wanted,
        )  # fmt: skip


def _finish(run: StageRun, config: FinetuneConfig, summary: dict[str, Any]) -> StageResult:
    models = {member: config.out / member / WEIGHTS for member in config.members}
    curves = {f"{member} curves": f"{member}/curves.png" for member in config.members}
    return run.finish(
        summary=summary,
        look_at={**curves, "splits": "splits.json"},
        outputs={member: digest_file(path) for member, path in models.items()},
    )
