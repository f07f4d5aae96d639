"""Build the scans that ship with the project from the source collections.

Run from the repository root: `python tests/data/build.py --source ../shared/data`.
The same sources and library versions give the same bytes every time.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from build_dicom import NAME_IN_FILE_NAMES, PEOPLE, build_dicom
from build_nifti import VOLUMES, build_volume, encode, nifti_bytes, resample
from build_readme import build_readme

PARTS = ("dicom", "nifti", "trouble", "hippocampus")
HIPPOCAMPUS_PAIRS = 44
COPIED_HEAD = "mr/btp_p01_t1post"
RESAMPLED_HEAD = "mr/ms_p12_T1W"
TRUNCATED_HEAD = "mr/multiecho_p01_GRE"
NEAR_DUPLICATE_STEP = 1.4


def build_hippocampus(source: Path, out: Path) -> None:
    """Copy pairs spread evenly over the available cases, with their Decathlon dataset.json."""
    source, out = source / "segmentation" / "hippocampus", out / "hippocampus"
    dataset = json.loads((source / "dataset.json").read_text())
    cases = dataset["training"]
    chosen = np.linspace(0, len(cases) - 1, HIPPOCAMPUS_PAIRS).round().astype(int)
    dataset["training"] = []
    for case in (cases[index] for index in chosen):
        entry = {}
        for role, folder in (("image", "imagesTr"), ("label", "labelsTr")):
            path = source / case[role]
            target = out / folder / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
            entry[role] = f"./{folder}/{path.name}"
        dataset["training"].append(entry)
    dataset["numTraining"] = len(chosen)
    dataset["description"] = (
        "Left and right hippocampus head and body (Medical Segmentation Decathlon Task04), "
        f"{len(chosen)} of its training cases"
    )
    (out / "dataset.json").write_text(json.dumps(dataset, indent=1) + "\n")


def build_trouble(out: Path) -> None:
    """Files that an ingest must survive (the DICOM ones are in build_dicom)."""
    nifti, trouble = out / "nifti", out / "trouble"
    trouble.mkdir(exist_ok=True)
    whole = (nifti / f"{TRUNCATED_HEAD}.nii.gz").read_bytes()
    (trouble / "truncated.nii.gz").write_bytes(whole[: len(whole) // 2])
    (trouble / "copy_of_head.nii.gz").write_bytes((nifti / f"{COPIED_HEAD}.nii.gz").read_bytes())
    (trouble / "notes.txt").write_text("Scanned on a Tuesday. This is not an image.\n")
    (trouble / "empty.dcm").write_bytes(b"")

    image = nib.load(nifti / f"{RESAMPLED_HEAD}.nii.gz")
    i_mm, j_mm, k_mm = (float(mm) * NEAR_DUPLICATE_STEP for mm in image.header.get_zooms())
    array, affine = resample(image.get_fdata(), image.affine, (i_mm, j_mm, k_mm))
    (trouble / "resampled_head.nii.gz").write_bytes(nifti_bytes(encode(array, None), affine))


def build_canaries(out: Path) -> None:
    """List every string that may never leave the private part of a library."""
    uids: set[str] = set()
    for path in sorted([*(out / "dicom").rglob("*"), *(out / "trouble").rglob("*.dcm")]):
        if path.is_file() and path.stat().st_size:
            ds = pydicom.dcmread(path, stop_before_pixels=True)
            uids |= {ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID}
            uids |= {ds.FrameOfReferenceUID} if "FrameOfReferenceUID" in ds else set()
    strings = [text for person in PEOPLE for text in person.canaries()]
    canaries = {"strings": [*strings, NAME_IN_FILE_NAMES], "uids": sorted(str(uid) for uid in uids)}
    (out / "canaries.json").write_text(json.dumps(canaries, indent=1) + "\n")


def main() -> None:
    """Rebuild everything below `--out`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="folder of the collections")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    source, out = arguments.source, arguments.out
    for part in PARTS:
        shutil.rmtree(out / part, ignore_errors=True)
    for volume in VOLUMES:
        build_volume(volume, source, out)
    build_dicom(source, out)
    build_hippocampus(source, out)
    build_trouble(out)
    build_canaries(out)
    build_readme(source, out)


if __name__ == "__main__":
    main()
