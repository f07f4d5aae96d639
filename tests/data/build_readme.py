"""The README of the shipped data: one row per file or folder, licences from the manifests."""

from __future__ import annotations

import csv
from pathlib import Path

from build_nifti import VOLUMES, Volume

MANIFESTS = ("volumes", "dicom-series", "segmentation")
ALLOWED = ("Apache-2.0", "BSD-2-Clause", "BSD-3", "MIT", "CC0", "CC-BY")

# The DICOM cases have no manifest: their README names these repositories, all BSD-2-Clause.
CASES = {
    "dicom-cases/decubitus-right": "github:neurolabusc/dcm_qa_decubitus",
    "dicom-cases/multi-echo": "github:neurolabusc/dcm_qa_me",
    "dicom-cases/ge-siemens-mr": "github:neurolabusc/dcm_qa_nih",
}
ATTRIBUTION = {
    "github:wasserth/TotalSegmentator": "TotalSegmentator, J. Wasserthal et al., University "
    "Hospital Basel; Radiology: AI 2023",
    "github:ivadomed/data-testing": "Medical Segmentation Decathlon Task09, Antonelli et al., "
    "Nature Communications 2022; crop by the ivadomed team",
    "github:niivue/niivue": "NiiVue contributors",
    "github:neurolabusc/VolumeRenderingData": "Seg3D, Scientific Computing and Imaging "
    "Institute, University of Utah",
    "github:neurolabusc/Clinical": "C. Rorden, Clinical Toolbox; NeuroImage 2012",
    "github:muschellij2/open_ms_data": "Ž. Lesjak et al., University of Ljubljana; "
    "open_ms_data by J. Muschelli",
    "pypi:nilearn 0.14.1": "nilearn developers; MNI ICBM 152, Copyright 1993-2009 Louis "
    "Collins, McConnell Brain Imaging Centre, McGill University",
    "pypi:pycortex 1.4.0": "pycortex, J. Gao et al.; Frontiers in Neuroinformatics 2015",
    "github:stepha-mar/Colon": "Cancer Moonshot Biobank, CMB-CRC, The Cancer Imaging Archive",
    "github:okieraised/sample-dicom": "N. Heller et al., C4KC-KiTS, The Cancer Imaging Archive",
    "github:udacity/nd320-c3-3d-imaging-starter": "K. Schmainda, M. Prah, "
    "Brain-Tumor-Progression, The Cancer Imaging Archive",
    "github:neurolabusc/dcm_qa_ct": "C. Rorden, dcm_qa_ct; images by Aliza Medical Imaging",
    "github:neurolabusc/dcm_qa_decubitus": "C. Rorden, dcm_qa_decubitus",
    "github:neurolabusc/dcm_qa_me": "C. Rorden, dcm_qa_me",
    "github:neurolabusc/dcm_qa_nih": "C. Rorden, dcm_qa_nih",
    "github:andygomez3dart/Project1": "P. Kinahan et al., ACRIN-FLT-Breast, The Cancer "
    "Imaging Archive",
    "github:DIAGNijmegen/picai_prep": "G. Litjens et al., PROSTATEx, The Cancer Imaging Archive",
}
PLANTED = "invented identifiers planted"
LOCALIZED = (
    "cut from the sagittal series, 2 mm pixels; ImageType, descriptions and the UIDs of series "
    "and instance set; private elements removed"
)
HALVED = "2 x 2 pixels averaged (spacing and position follow), JPEG 2000 lossless"


def build_readme(source: Path, out: Path) -> None:
    """Write README.md: the prose below and the table."""
    origins = _origins(source)
    rows = [_volume_row(volume, origins) for volume in VOLUMES]
    rows += _dicom_rows(origins)
    rows += _trouble_rows(origins)
    header = ("file", "what", "source", "licence", "attribution", "what was changed")
    lines = [f"| {' | '.join(row)} |" for row in (header, ("---",) * len(header), *rows)]
    template = (Path(__file__).parent / "readme_prose.md").read_text(encoding="utf-8")
    (out / "README.md").write_text(template.replace("{table}", "\n".join(lines)), encoding="utf-8")


def _origins(source: Path) -> dict[str, tuple[str, str]]:
    """Source file or folder -> (source, licence), for everything that a manifest lists."""
    origins = {path: (repository, "BSD-2-Clause") for path, repository in CASES.items()}
    for folder in MANIFESTS:
        with (source / folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                origins[f"{folder}/{row['file']}"] = (row["source"], row["licence"])
    return origins


def _origin(path: str, origins: dict[str, tuple[str, str]]) -> tuple[str, str, str]:
    """(source, licence, attribution) of a source path; refuses what may not be shipped."""
    matches = [key for key in origins if key == path or path.startswith(f"{key}/")]
    matches += [key for key in origins if key.startswith(f"{path}/")]
    repository, licence = origins[matches[0]]
    if not licence.startswith(ALLOWED):
        msg = f"{path}: licence {licence!r} may not be shipped; leave the file out"
        raise ValueError(msg)
    return repository, licence, ATTRIBUTION[repository]


def _volume_row(volume: Volume, origins: dict[str, tuple[str, str]]) -> tuple[str, ...]:
    changes = "none, byte for byte" if volume.original else _changes(volume)
    name = f"`nifti/{volume.name}.nii.gz`"
    return (name, volume.what, *_origin(volume.source, origins), changes)


def _changes(volume: Volume) -> str:
    parts = [volume.notes] if volume.notes else []
    if volume.spacing_mm is not None:
        spacing = " x ".join(f"{mm:g}" for mm in volume.spacing_mm)
        parts.append(f"axes finer than {spacing} mm resampled to it (Gaussian, then linear)")
    if volume.levels is not None:
        parts.append(f"99.9th percentile scaled to {volume.levels}")
    parts.append("uint8" if volume.levels is not None and volume.levels <= 255 else "int16")
    if volume.source.startswith("volumes/derived"):
        parts.append("converted from DICOM and resampled before")
    return "; ".join(parts)


def _dicom_rows(origins: dict[str, tuple[str, str]]) -> list[tuple[str, ...]]:
    acrin = _origin("dicom-series/acrin_chest_ct", origins)
    adc = _origin("dicom-series/prostatex0000_adc", origins)
    t2 = _origin("dicom-series/prostatex0000_t2_tra", origins)
    chest = "CT, chest, contiguous slices, JPEG 2000"
    return [
        ("`dicom/ct_chest/*`", chest, *acrin, f"{HALVED}; {PLANTED}; files renamed"),
        ("`dicom/mr_prostate_adc/*`", "MR ADC, prostate", *adc, f"{PLANTED}; files renamed"),
        (
            "`dicom/mr_prostate_t2/*`",
            "MR T2, prostate, the same patient, JPEG 2000",
            *t2,
            f"{HALVED}; {PLANTED}; files renamed",
        ),
    ]


def _trouble_rows(origins: dict[str, tuple[str, str]]) -> list[tuple[str, ...]]:
    volumes = {volume.name: volume for volume in VOLUMES}
    own = ("made for this project", "Apache-2.0", "medssl contributors")
    decubitus = _origin("dicom-cases/decubitus-right", origins)
    acrin = _origin("dicom-series/acrin_chest_ct", origins)
    hippocampus = (
        "github:udacity/nd320-c3-3d-imaging-starter",
        _origin("segmentation/hippocampus/images", origins)[1],
        (
            "Medical Segmentation Decathlon Task04, Vanderbilt University Medical Center; "
            "Antonelli et al., Nature Communications 2022"
        ),
    )

    def derived(file: str, name: str, what: str, change: str) -> tuple[str, ...]:
        return (f"`trouble/{file}`", what, *_origin(volumes[name].source, origins), change)

    return [
        derived(
            "truncated.nii.gz",
            "mr/multiecho_p01_GRE",
            "a file cut in the middle",
            "the first half of `nifti/mr/multiecho_p01_GRE.nii.gz`",
        ),
        derived(
            "copy_of_head.nii.gz",
            "mr/btp_p01_t1post",
            "an exact copy under another name",
            "copy of `nifti/mr/btp_p01_t1post.nii.gz`",
        ),
        derived(
            "resampled_head.nii.gz",
            "mr/ms_p12_T1W",
            "a near-duplicate",
            "`nifti/mr/ms_p12_T1W.nii.gz` resampled to 1.4 times its spacing",
        ),
        (
            "`trouble/dicom_localizer/*`",
            "a localizer: three orthogonal images",
            *decubitus,
            f"{LOCALIZED}; {PLANTED}",
        ),
        (
            "`trouble/truncated_dicom/*`",
            "a DICOM slice cut in its pixels, alone in its series",
            *acrin,
            f"2 x 2 pixels averaged; new series UID; {PLANTED}; cut after 60,000 bytes",
        ),
        ("`trouble/notes.txt`", "a text file", *own, "written for this"),
        ("`trouble/empty.dcm`", "an empty file", *own, "written for this"),
        (
            "`hippocampus/*`",
            "MR, hippocampus: 44 crops with labels (1 anterior, 2 posterior)",
            *hippocampus,
            "images and labels byte for byte; `dataset.json` lists these cases",
        ),
        ("`canaries.json`", "the planted identifiers and the UIDs", *own, "written for this"),
    ]
