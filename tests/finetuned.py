"""A tiny labelled set of phantoms and a finetuning on it, made once for all tests that need one.

The class follows the intensity, so a few steps are enough to learn something.
"""

import atexit
import csv
import functools
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch

from medssl.io.nifti import write_nifti
from medssl.models.encoders.segresnet import SegResNetEncoder
from medssl.models.weights import save_encoder
from medssl.training.finetune import FinetuneConfig, finetune

LABELS = ("background", "shell", "kernel")


def phantom(seed, shape=(20, 22, 18)):
    """Return a noisy ball with a bright kernel, and its label map."""
    rng = np.random.default_rng(seed)
    centre = np.array(shape) / 2 + rng.uniform(-1.5, 1.5, 3)
    radius = np.linalg.norm(np.moveaxis(np.indices(shape), 0, -1) - centre, axis=-1)
    label = (radius < 6.5).astype(np.uint8) + (radius < 3.5)
    image = np.array([100, 500, 900])[label] + rng.normal(0, 30, shape)
    return image.astype(np.int16), label.astype(np.uint8)


def affine(spacing_mm=(1.0, 1.0, 1.0), axes=(-1, -1, 1)):
    matrix = np.diag([*np.multiply(spacing_mm, axes), 1.0])
    matrix[:3, 3] = (10, 20, -30)
    return matrix


def write_dataset(folder, cases=8, **changes):
    """Write a Decathlon folder of phantoms and return its dataset.json; ``changes`` go into it."""
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    training = []
    for number in range(cases):
        image, label = phantom(number)
        for part, array in (("imagesTr", image), ("labelsTr", label)):
            write_nifti(array, affine(), folder / part / f"ball_{number}.nii.gz")
        training.append({key: f"./{key}sTr/ball_{number}.nii.gz" for key in ("image", "label")})
    described = {
        "name": "Balls",
        "licence": "CC0",
        "modality": {"0": "MRI"},
        "labels": dict(enumerate(LABELS)),
        "training": training,
    }
    path = folder / "dataset.json"
    path.write_text(json.dumps(described | changes))
    return path


def write_table(folder, cases=16):
    """Write bright and dark balls with a finding, a grade and a size; returns the table."""
    folder.mkdir(parents=True)
    rows = []
    for number in range(cases):
        image, label = phantom(number)
        bright = number % 2
        image = (image + 1500 * bright * (label > 0)).astype(np.int16)
        write_nifti(image, affine(), folder / f"ball_{number}.nii.gz")
        size = int((label > 0).sum())
        rows.append(
            {
                "image": f"ball_{number}.nii.gz",
                "patient": f"p{number}",
                "finding": "yes" if bright else "no",
                "kernel": bright,
                "odd": "" if number == 3 else 1 - bright,
                "size": size,
                "site": "ab"[number % 2],
            }
        )
    with (folder / "balls.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder / "balls.csv"


def write_encoder(folder, seed=7, **config):
    """Write an encoder folder as a pretraining leaves it, with weights of its own."""
    torch.manual_seed(seed)
    encoder = SegResNetEncoder.Config(**{"width": 4, "blocks": (1, 1, 1), **config}).build()
    about = {"mr": {"name": "mr"}}
    save_encoder(folder, encoder, spacing_mm=[1, 1, 1], intensity=about)
    return folder


def config(dataset, out, **changes):
    """Return a finetuning of seconds."""
    options = {
        "dataset": dataset,
        "out": out,
        "preprocessing": {"spacing_mm": (1, 1, 1), "intensity": {"name": "mr"}},
        "task": {"name": "segmentation", "overlap": 0.25},
        "patch_voxels": (16, 16, 16),
        "splits": {"test": 0.35, "val": 0.2},
        "schedule": {"steps": 24, "warmup_steps": 2},
        "optimizer": {"lr": 2e-2},
        "rhythm": {"validate_steps": 12, "record_steps": 4, "checkpoint_steps": 8},
        "tracking": {"enabled": False},
        "engine": {"accelerator": "cpu"},
    }
    return FinetuneConfig.model_validate(options | changes)


@functools.cache
def finetuned() -> Path:
    """Return the folder of a finished finetuning of both twins; read it, do not change it."""
    root = Path(tempfile.mkdtemp(prefix="medssl-finetuned-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    dataset = write_dataset(root / "balls")
    encoder = write_encoder(root / "encoder")
    finetune(config(dataset, root / "run", encoder_from=encoder))
    return root / "run"
