"""A made-up folder like that of the COVID-CT challenge."""

from pathlib import Path

import numpy as np
from PIL import Image


def challenge(folder: Path, *, train: int = 4, val: int = 2, bright: int = 60) -> Path:
    """Write so many patients of each label to the lists of training and validation.

    Every patient has two pictures of noise; positive ones are brighter along their left border.
    """
    rng = np.random.default_rng(0)
    for label, kind in (("COVID", "Patient {}"), ("NonCOVID", "medpix_patient_{}")):
        patients = {"train": range(train), "val": range(train, train + val)}
        images = folder / "Images" / f"CT_{label}"
        images.mkdir(parents=True)
        (folder / "Data-split" / label).mkdir(parents=True)
        rows = []
        for part, numbers in patients.items():
            names = [f"{label}-{number}%{take}.png" for number in numbers for take in (0, 1)]
            listed = folder / "Data-split" / label / f"{part}CT_{label}.txt"
            listed.write_text("\n".join(names) + "\n\n")
            for name in names:
                grey = rng.integers(0, 256, (24, 32), dtype=np.uint8)
                grey[:, 0] = 100 + bright * (label == "COVID")
                Image.fromarray(grey).save(images / name)
            rows += [(name, kind.format(name.split("-")[1].split("%")[0])) for name in names]
        write_patients(folder, label, rows)
    return folder


def write_patients(folder: Path, label: str, rows: list[tuple[str, str]]) -> None:
    """Write the table of one label's patients, as the challenge lays it out."""
    (folder / "Info").mkdir(exist_ok=True)
    header = "File name,Patient ID,Age" if label == "COVID" else ",image name,patient id"
    line = "{0},{1},50" if label == "COVID" else "0,{0},{1}"
    text = [header, *(line.format(*row) for row in rows)]
    (folder / "Info" / f"{label}-CT-MetaInfo.csv").write_text("\n".join(text) + "\n")
