"""nnU-Net finetunes an encoder that medssl exported, beside the same training from scratch.

    python -m pipelines.benchmarks.nnunet_finetune runs/export/nnunet/nnunet
    python -m pipelines.benchmarks.nnunet_finetune EXPORT --epochs 50 --iterations 250 --device cuda

nnU-Net plans, preprocesses and trains, through its own functions; only the architecture and the
patch of its plan are those of the export's adaptation plan, as nnU-Net's own
``preprocess_like_nnssl`` sets them. Both trainings have the same plan, split, order of patches,
learning rate and first weights of whatever the export does not bring. Prints the loss and nnU-Net's
pseudo-Dice of every epoch and writes them as JSON. A few short epochs prove that the way works,
not that pretraining helps.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from medssl.labelled.read import read_labelled
from medssl.runs.environment import describe
from medssl.runs.folder import read_json, write_json

ROOT: Final = Path(__file__).resolve().parents[2]
HIPPOCAMPUS: Final = ROOT / "tests" / "data" / "hippocampus" / "dataset.json"
NUMBER: Final = 800
NAME: Final = f"Dataset{NUMBER}_finetuned"
PLANS: Final = "medsslPlans"
CONFIGURATION: Final = "3d_fullres"
SHOWN: Final = {
    "train_losses": "training loss",
    "val_losses": "validation loss",
    "mean_fg_dice": "pseudo-Dice",
}
"""What nnU-Net logs of every epoch, and what it is called here."""
STARTS: Final = ("pretrained", "scratch")


def main(arguments: Sequence[str] | None = None) -> int:
    """Plan, preprocess, train twice, print a table and write JSON."""
    options = _options(arguments)
    plan = read_json(options.export / "adaptation_plan.json")
    weights = options.export / "checkpoint_final.pth"
    with _work(options.work) as work, (work / "nnunet.log").open("w") as log:
        point_nnunet_to(work)
        with redirect_stdout(log), redirect_stderr(log):
            write_raw(options.dataset, work / "raw" / NAME, options.cases)
            plan_and_preprocess(plan, work / "preprocessed" / NAME, options.batch_size)
            curves = {
                start: train(weights if start == "pretrained" else None, options)
                for start in STARTS
            }
    found = {
        "curves": curves,
        "options": {name: str(value) for name, value in vars(options).items()},
        "machine": describe(),
    }
    show(curves)
    if options.out is not None:
        write_json(options.out, found)
    return 0


def point_nnunet_to(work: Path) -> None:
    """Tell nnU-Net where its folders are."""
    for name in ("raw", "preprocessed", "results"):
        folder = work / name
        folder.mkdir(parents=True, exist_ok=True)
        os.environ[f"nnUNet_{name}"] = str(folder)


def write_raw(dataset: Path, folder: Path, cases: int | None) -> None:
    """Write a labelled set of one channel as nnU-Net wants it: links, and its dataset.json."""
    labelled = read_labelled(dataset)
    chosen = list(labelled.cases)[:cases]
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for case in chosen:
        files = {f"imagesTr/{case.case_key}_0000": case.image}
        if case.label is not None:
            files[f"labelsTr/{case.case_key}"] = case.label
        for name, file in files.items():
            (folder / f"{name}.nii.gz").symlink_to(file.resolve())
    described = {
        "channel_names": {"0": labelled.modality},
        "labels": {name: number for number, name in enumerate(labelled.labels)},
        "numTraining": len(chosen),
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(described))


def plan_and_preprocess(plan: dict[str, Any], folder: Path, batch_size: int) -> None:
    """Let nnU-Net plan, give its plan the export's architecture and patch, and preprocess.

    Args:
        plan: The export's adaptation plan.
        folder: Where nnU-Net keeps what it makes of the set.
        batch_size: Patches per step.
    """
    nnunet = import_module("nnunetv2.experiment_planning.plan_and_preprocess_api")
    nnunet.extract_fingerprints([NUMBER], num_processes=1, check_dataset_integrity=True)
    nnunet.plan_experiments([NUMBER], "nnUNetPlannerResEncM")
    plans = read_json(folder / "nnUNetResEncUNetMPlans.json")
    architecture = plan["architecture_plans"]
    chosen = plans["configurations"][CONFIGURATION] | {
        "patch_size": plan["recommended_downstream_patchsize"],
        "batch_size": batch_size,
        "data_identifier": f"{PLANS}_{CONFIGURATION}",
        "architecture": {
            "network_class_name": architecture["arch_class_name"],
            "arch_kwargs": architecture["arch_kwargs"],
            "_kw_requires_import": architecture["arch_kwargs_requiring_import"],
        },
    }
    adapted = plans | {"plans_name": PLANS, "configurations": {CONFIGURATION: chosen}}
    write_json(folder / f"{PLANS}.json", adapted)
    nnunet.preprocess([NUMBER], PLANS, (CONFIGURATION,), (1,))


def train(weights: Path | None, options: argparse.Namespace) -> dict[str, Any]:
    """Train as ``nnUNetv2_train`` does, with ``-pretrained_weights`` or without."""
    nnunet = import_module("nnunetv2.run.run_training")
    os.environ["nnUNet_n_proc_DA"] = "0"  # noqa: SIM112  patches in one order, in this process
    random.seed(options.seed)
    np.random.seed(options.seed)  # nnU-Net draws from it
    torch.manual_seed(options.seed)
    began_s = time.monotonic()
    trainer = nnunet.get_trainer_from_args(
        str(NUMBER),
        CONFIGURATION,
        options.fold,
        plans_identifier=PLANS,
        device=torch.device(options.device),
    )
    trainer.num_epochs = options.epochs
    trainer.num_iterations_per_epoch = options.iterations
    trainer.num_val_iterations_per_epoch = options.validation_iterations
    trainer.initial_lr = options.lr
    trainer.disable_checkpointing = True
    trainer.initialize()
    nnunet.maybe_load_checkpoint(
        trainer,
        continue_training=False,
        validation_only=False,
        pretrained_weights_file=None if weights is None else str(weights),
    )
    trainer.run_training()
    logged = {name: trainer.logger.get_value(name, step=None) for name in SHOWN}
    curves = {name: [float(value) for value in values] for name, values in logged.items()}
    return {**curves, "seconds": time.monotonic() - began_s}


def show(curves: dict[str, dict[str, Any]]) -> None:
    """Print one row per epoch, both starts side by side."""
    table = Table("epoch", title="nnU-Net, 3d_fullres", title_justify="left")
    for start in curves:
        for title in SHOWN.values():
            table.add_column(f"{start}\n{title}", justify="right")
    epochs = len(next(iter(curves.values()))["train_losses"])
    for epoch in range(epochs):
        values = [curve[name][epoch] for curve in curves.values() for name in SHOWN]
        table.add_row(str(epoch + 1), *(f"{value:.4f}" for value in values))
    Console(width=110).print(table)


@contextmanager
def _work(given: Path | None) -> Iterator[Path]:
    """Yield an empty folder; one of ours is removed in the end."""
    if given is not None:
        given.mkdir(parents=True)
        yield given
        return
    folder = Path(tempfile.mkdtemp(prefix="nnunet_finetune_"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "export", type=Path, help="folder that `medssl export --format nnunet` made"
    )
    parser.add_argument(
        "--dataset", type=Path, default=HIPPOCAMPUS, help="a labelled set in .nii.gz"
    )
    parser.add_argument("--cases", type=int, help="use only so many of its cases")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--iterations", type=int, default=20, help="of an epoch")
    parser.add_argument("--validation-iterations", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--lr", type=float, default=1e-2, help="nnU-Net's own is 0.01")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--work", type=Path, help="new folder for nnU-Net's files; kept")
    parser.add_argument("--out", type=Path, help="where the numbers go, as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
