"""Finetunings on tiny phantoms with a table of values: trained too little to be right always."""

import atexit
import csv
import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np

from medssl.evaluation.evaluate import EvaluateConfig, evaluate
from medssl.io.nifti import write_nifti
from medssl.labelled.cases import read_image
from medssl.labelled.read import read_labelled
from medssl.runs.folder import read_json
from medssl.training.finetune import finetune
from tests.finetuned import affine, config, write_encoder

SHAPE = (12, 10, 8)
CASES = 26


def values(number):
    """Return a row of the table; what it says of a phantom is seen in its right half."""
    return {
        "patient": f"person {number // 2 if number < 6 else number}",
        "modality": "MR",
        "sex": "F" if number % 3 else "M",
        "finding": number % 2,
        "grade": number % 3,
        "one": "" if number % 5 == 4 else number % 2,
        "two": "" if number % 7 == 3 else (number // 2) % 2,
        "age": "" if number == 9 else 20 + 3 * number,
        "height": 150 + number % 11,
    }


def phantom(row, rng):
    image = rng.normal(100, 20, SHAPE)
    image[6:] += 15 * row["finding"] + 10 * row["grade"]
    image[:, :5] += (float(row["age"] or 40) - 50) / 4
    return np.clip(image, 0, None).astype(np.int16)


@functools.cache
def folder() -> Path:
    """Return a folder with a table of phantoms and an encoder."""
    root = Path(tempfile.mkdtemp(prefix="medssl-tables-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    rng, rows = np.random.default_rng(5), [values(number) for number in range(CASES)]
    for number, row in enumerate(rows):
        write_nifti(phantom(row, rng), affine(), root / f"scan_{number}.nii.gz")
        row["image"] = f"scan_{number}.nii.gz"
    with (root / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    write_encoder(root / "encoder")
    return root


@functools.cache
def trained(task: str, *columns: str, fold: int | None = None) -> Path:
    """Return a finished finetuning of both twins."""
    root = folder()
    out = root / "-".join([task, *columns, str(fold)])
    splits = (
        {"test": 0.45, "val": 0.3} if fold is None else {"test": 0.45, "folds": 2, "fold": fold}
    )
    finetune(
        config(
            root / "table.csv",
            out,
            encoder_from=root / "encoder",
            task={"name": task, "columns": columns},
            patch_voxels=(8, 8, 8),
            splits=splits,
            schedule={"steps": 4, "warmup_steps": 1},
            rhythm={"validate_steps": 4, "record_steps": 2, "checkpoint_steps": 4},
        )
    )
    return out


def judged(out: Path, *runs: Path, **changes):
    """Return the metrics of an evaluation of finetunings, made in ``out``."""
    quick = {"tracking": {"enabled": False}, "resamples": 120, "permutations": 200}
    evaluate(EvaluateConfig(finetune=runs, out=out, **quick | changes))
    return read_json(out / "metrics.json")


def cases_of(run: Path, part: str):
    """Return the cases of one part of a finetuning, and their volumes."""
    labelled = read_labelled(folder() / "table.csv")
    keys = read_json(run / "splits.json")["cases"][part]
    cases = [labelled.case(key) for key in keys]
    return cases, [read_image(case, labelled.modality) for case in cases]
