"""The table that `medssl finetune configs/finetune/covid_ct.yaml` reads, of the challenge's folder.

    python -m pipelines.covid_ct_table ../shared/data/covid-ct runs/covid_ct.csv

The folder is that of https://github.com/UCSD-AI4H/COVID-CT (Yang et al. 2020, arXiv:2003.13865)
with ``Images``, ``Data-split`` and the patients' tables, here in ``Info``. Images of the official
training lists train; those of the official validation lists are held aside as ``test``, and those
of an official test list, where the folder has one, as well. The validation that chooses the
weights is drawn from the training patients by `medssl finetune`.
"""

import argparse
import io
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd

from medssl.cli.run import user_errors_explained
from medssl.errors import InputError
from medssl.runs.folder import write_text

PARTS: Final[Mapping[str, str]] = {"train": "train", "val": "test", "test": "test"}
"""The challenge's lists, and which part each becomes."""
COLUMNS: Final = ("image", "patient", "split", "site", "modality", "covid")


def covid_ct_table(folder: Path, beside: Path) -> pd.DataFrame:
    """Return a row per listed image: ``COLUMNS``, paths relative to the folder ``beside``.

    Age and sex are left out: the tables know them of the patients with COVID-19 alone.

    Raises:
        InputError: A list, an image or a patient is missing.
    """
    rows = [row for label in ("COVID", "NonCOVID") for row in _rows(folder, label)]
    patients = {**_patients(folder, "COVID"), **_patients(folder, "NonCOVID")}
    missing = [path for path, *_ in rows if not path.is_file()]
    strangers = [path for path, *_ in rows if (path.parent.name, path.stem) not in patients]
    if missing or strangers:
        raise InputError(
            f"{len(missing)} of {len(rows)} listed images are missing in {folder / 'Images'}, and "
            f"{len(strangers)} have no patient in {folder / 'Info'}",
            hint="unpack the archives of the challenge into Images/CT_COVID and Images/CT_NonCOVID",
        )
    found = list[tuple[Any, ...]]()
    for path, part, label in rows:
        patient = patients[path.parent.name, path.stem]
        site = "preprints" if label == "COVID" else patient.partition("_")[0]
        image = Path(os.path.relpath(path.resolve(), beside.resolve())).as_posix()
        found.append((image, patient, part, site, "CT", int(label == "COVID")))
    return pd.DataFrame(found, columns=list(COLUMNS))


def _rows(folder: Path, label: str) -> list[tuple[Path, str, str]]:
    """Return path, part and label of every image in the lists of one label."""
    found = list[tuple[Path, str, str]]()
    for listed, part in PARTS.items():
        path = folder / "Data-split" / label / f"{listed}CT_{label}.txt"
        if not path.is_file() and listed == "test":
            continue
        names = _text(path).split("\n")
        images = folder / "Images" / f"CT_{label}"
        found += [(images / name.strip(), part, label) for name in names if name.strip()]
    return found


def _patients(folder: Path, label: str) -> dict[tuple[str, str], str]:
    """Return the patient of every image, by folder and name without its ending."""
    path = folder / "Info" / f"{label}-CT-MetaInfo.csv"
    table = pd.read_csv(io.StringIO(_text(path)), dtype=str, keep_default_na=False)
    name, patient = (
        ("File name", "Patient ID") if label == "COVID" else ("image name", "patient id")
    )
    return {
        (f"CT_{label}", Path(file.strip()).stem): who.strip()
        for file, who in zip(table[name], table[patient], strict=True)
        if who.strip()
    }


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        raise InputError(
            f"{path} is missing or cannot be read", hint="give the folder of the COVID-CT challenge"
        ) from None


def main(arguments: Sequence[str]) -> None:
    """Write the table, and say what it holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of the challenge: Images, Data-split, Info")
    parser.add_argument("out", type=Path, help="the CSV to write")
    given = parser.parse_args(arguments)
    with user_errors_explained():
        table = covid_ct_table(given.folder, given.out.parent)
        write_text(given.out, table.to_csv(index=False))
    for part in dict.fromkeys(table["split"]):
        for covid in (0, 1):
            rows = table[(table["split"] == part) & (table["covid"] == covid)]
            patients = rows["patient"].nunique()
            print(f"{part}, covid {covid}: {len(rows)} images of {patients} patients")


if __name__ == "__main__":
    main(sys.argv[1:])
