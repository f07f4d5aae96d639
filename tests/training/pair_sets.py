"""Studies with reports that say what their volumes show, for trainings of a few steps."""

from pathlib import Path

import numpy as np

from medssl.io.nifti import write_nifti
from medssl.reports.pairs import Pair, Section, write_pairs

FINDINGS = ("effusion", "nodule")
SAID = (
    "No effusion. A nodule in the left lung.",
    "Large effusion on the right.",
    "Normal chest.",
    "No acute finding.",
)


def write_pair_set(folder: Path, *, train: int = 6, val: int = 2) -> Path:
    """Pairs of the volumes of ``tests.training.stores.write_store``, one each."""
    pairs = []
    for n in range(train + val):
        kind = n % len(SAID)
        labels = ({"effusion": 0, "nodule": 1}, {"effusion": 1}, {}, {"effusion": -1})[kind]
        pairs.append(
            Pair(
                study_key=f"s{n:02d}",
                patient_key=f"p{n:02d}",
                split="train" if n < train else "val",
                volume_keys=(f"v{n:02d}",),
                sections=(Section(name="findings", text=f"{SAID[kind]} Series {n}."),),
                labels=labels,
                normal=kind >= 2,
            )
        )
    write_pairs(folder, pairs, FINDINGS)
    return folder


def write_maps(folder: Path, *, train: int = 6, val: int = 2) -> Path:
    """Maps of all volumes but the first: an organ of label 7, or what somebody looked at."""
    folder.mkdir()
    for n in range(1, train + val):
        array = np.zeros((24, 24, 24), np.uint8)
        array[8:14, 7 + n % 3 : 15, 9:16] = 7
        write_nifti(array, np.diag([3.0, 3.0, 3.0, 1.0]), folder / f"v{n:02d}.nii.gz")
    return folder
