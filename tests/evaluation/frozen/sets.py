"""A tiny labelled set of balls, of which only some have a bright kernel, and encoders to ask."""

import json

import numpy as np
import torch

from medssl.io.nifti import write_nifti
from medssl.models.encoders.segresnet import SegResNetEncoder
from medssl.models.weights import save_encoder
from tests.finetuned import LABELS, affine, phantom, write_dataset

PATIENTS, SCANS = 11, 2


def write_balls(folder):
    """Write a Decathlon folder of two scans a patient; return its dataset.json."""
    path = write_dataset(folder, cases=PATIENTS * SCANS)
    described = json.loads(path.read_text())
    for number, entry in enumerate(described["training"]):
        patient = number // SCANS
        entry["patient"] = f"somebody {patient}"
        if patient % 2:  # without a kernel, in image and label map
            image, label = phantom(number)
            image[label == 2] -= 400
            write_nifti(image, affine(), folder / entry["image"])
            write_nifti(np.minimum(label, 1), affine(), folder / entry["label"])
    path.write_text(json.dumps(described))
    return path


def write_encoder(folder, seed=7, **about):
    torch.manual_seed(seed)
    encoder = SegResNetEncoder.Config(width=4, blocks=(1, 1)).build()
    save_encoder(folder, encoder, **{"spacing_mm": [1, 1, 1], "intensity": {}, **about})
    return folder


KERNEL = LABELS[2]
