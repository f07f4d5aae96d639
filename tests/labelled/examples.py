"""Small sets of every layout, as people have them; the contract test of layouts reads them all."""

import csv
import json
import warnings
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
from PIL import Image
from pydicom.sr.codedict import codes

from medssl.io.nifti import write_nifti

LABELS = ("background", "shell", "kernel")
SHAPE = (12, 14, 10)
SHIPPED = Path(__file__).resolve().parents[1] / "data"
MR_T2 = SHIPPED / "dicom" / "mr_prostate_t2"
"""A real, oblique series of 19 slices."""


def affine(spacing_mm=(1.0, 1.0, 1.0)):
    matrix = np.diag([*np.multiply(spacing_mm, (-1, -1, 1)), 1.0])
    matrix[:3, 3] = (10, 20, -30)
    return matrix


def phantom(seed, shape=SHAPE):
    """Return a noisy ball with a kernel, and its label map."""
    rng = np.random.default_rng(seed)
    radius = np.linalg.norm(np.moveaxis(np.indices(shape), 0, -1) - np.array(shape) / 2, axis=-1)
    label = (radius < 4.5).astype(np.uint8) + (radius < 2.5)
    image = np.array([100, 500, 900])[label] + rng.normal(0, 30, shape)
    return image.astype(np.int16), label.astype(np.uint8)


def write_pair(image_path, label_path, seed):
    image, label = phantom(seed)
    for path, array in ((image_path, image), (label_path, label)):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_nifti(array, affine(), path)


def edit(path, change):
    described = json.loads(path.read_text())
    change(described)
    path.write_text(json.dumps(described))
    return path


def decathlon(folder, cases=3, **changes):
    names = [f"ball_{number}.nii.gz" for number in range(cases)]
    for number, name in enumerate(names):
        write_pair(folder / "imagesTr" / name, folder / "labelsTr" / name, number)
    described = {
        "name": "Balls",
        "licence": "CC0",
        "modality": {"0": "MRI"},
        "labels": dict(enumerate(LABELS)),
        "training": [{"image": f"./imagesTr/{n}", "label": f"./labelsTr/{n}"} for n in names],
    }
    folder.mkdir(exist_ok=True)
    path = folder / "dataset.json"
    path.write_text(json.dumps(described | changes))
    return path


def nnunet(folder, cases=3, tested=0, ending=".nii.gz", **changes):
    for number in range(cases + tested):
        part = "Tr" if number < cases else "Ts"
        write_pair(
            folder / f"images{part}" / f"ball_{number}_0000{ending}",
            folder / f"labels{part}" / f"ball_{number}{ending}",
            number,
        )
    described = {
        "channel_names": {"0": "T1"},
        "labels": {name: number for number, name in enumerate(LABELS)},
        "numTraining": cases,
        "file_ending": ending,
    }
    (folder / "dataset.json").write_text(json.dumps(described | changes))
    return folder


def write_table(path, rows, separator=",", encoding="utf-8", head=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding=encoding) as file:
        file.write(head)
        writer = csv.DictWriter(file, list(rows[0]), delimiter=separator)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_picture(path, seed, mode="L", size=(9, 7)):
    """Write a picture of noise; ``size`` is width and height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], bands), np.uint8)
    Image.frombytes(mode, size, pixels.tobytes()).save(path)
    return path


def table(folder, cases=3):
    rows = []
    for number in range(cases):
        write_picture(folder / "images" / f"{number}.png", number)
        value = "ill" if number % 2 else "well"
        rows.append({"image": f"images/{number}.png", "finding": value, "site": "A"})
    return write_table(folder / "cases.csv", rows)


def inside(points_LPS_mm, centre_mm, radii_mm):
    """Return which points (..., 3) lie in an ellipsoid."""
    away = (points_LPS_mm - np.asarray(centre_mm)) / np.asarray(radii_mm)
    return (away**2).sum(-1) < 1


def slice_points(dataset):
    """Return the place of every pixel, (rows, columns, 3) in LPS mm, by PS3.3 C.7.6.2.1.1."""
    cosines = np.array(dataset.ImageOrientationPatient, float)
    row_mm, column_mm = map(float, dataset.PixelSpacing)
    r, c = np.mgrid[: dataset.Rows, : dataset.Columns]
    return (
        np.array(dataset.ImagePositionPatient, float)
        + c[..., None] * cosines[:3] * column_mm
        + r[..., None] * cosines[3:] * row_mm
    )


def read_slices(folder):
    """Return the data sets of a series, with what highdicom wants to find in them."""
    datasets = [pydicom.dcmread(path) for path in sorted(Path(folder).iterdir())]
    for dataset in datasets:
        for keyword in ("StudyID", "AccessionNumber", "StudyDate", "StudyTime", "PatientSex"):
            if keyword not in dataset:
                setattr(dataset, keyword, "")
    return datasets


def make_seg(datasets, masks, labels, kind="BINARY", **options):
    """Return a DICOM SEG.

    ``masks`` is (frames, rows, columns, segments), in the order of ``datasets``, or a Volume.
    """
    described = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=codes.SCT.Prostate,
            algorithm_type="MANUAL",
        )
        for number, label in enumerate(labels, start=1)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return hd.seg.Segmentation(
            source_images=datasets,
            pixel_array=masks,
            segmentation_type=kind,
            segment_descriptions=described,
            series_instance_uid=hd.UID(),
            series_number=99,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer="nobody",
            manufacturer_model_name="none",
            software_versions="0",
            device_serial_number="0",
            **options,
        )


def middle_of(datasets):
    return slice_points(datasets[len(datasets) // 2]).mean(axis=(0, 1))


def ellipsoids(points_LPS_mm, middle_mm):
    """Return masks (..., 2) of two ellipsoids that do not touch."""
    return np.stack(
        [
            inside(points_LPS_mm, middle_mm + np.array((12, 5, 2)), (9, 14, 12)),
            inside(points_LPS_mm, middle_mm - np.array((20, 3, 1)), (15, 7, 6)),
        ],
        axis=-1,
    )


def dicom_seg(folder, cases=2):
    """Write copies of a real series, each with a SEG; every copy is of another patient."""
    for number in range(cases):
        series = folder / f"case_{number}" / "mr"
        series.mkdir(parents=True)
        datasets = read_slices(MR_T2)[5:12]
        uid = hd.UID()
        for dataset in datasets:
            dataset.SeriesInstanceUID, dataset.PatientID = uid, f"canary-{number}"
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = hd.UID()
            dataset.decompress()
            pixels = np.frombuffer(dataset.PixelData, np.uint16) + np.uint16(number)
            dataset.PixelData = pixels.tobytes()
            dataset.save_as(series / f"{dataset.InstanceNumber}.dcm")
        middle_mm = middle_of(datasets)
        masks = np.stack([ellipsoids(slice_points(dataset), middle_mm) for dataset in datasets])
        make_seg(datasets, masks, ("zone", "apex")).save_as(folder / f"case_{number}" / "seg.dcm")
    return folder


EXAMPLES = {"decathlon": decathlon, "nnunet": nnunet, "table": table, "dicom_seg": dicom_seg}
