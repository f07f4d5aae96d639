"""The scans that ship with the project: size, licences, what is in them, planted identifiers."""

import gzip
import json
import re
from collections import defaultdict
from fnmatch import fnmatch
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless

DATA = Path(__file__).parent / "data"
PARTS = ("dicom", "nifti", "trouble", "hippocampus")
FILES = sorted(path for part in PARTS for path in (DATA / part).rglob("*") if path.is_file())
VOLUMES = sorted((DATA / "nifti").rglob("*.nii.gz"))
SERIES = {
    "ct_chest": ("CT", 26, JPEG2000Lossless),
    "mr_prostate_adc": ("MR", 19, ExplicitVRLittleEndian),
    "mr_prostate_t2": ("MR", 19, JPEG2000Lossless),
}
ALLOWED = re.compile(r"^(Apache-2\.0|BSD-2-Clause|BSD-3|MIT|CC0|CC-BY)")
REGION_MM = (216.0, 216.0, 72.0)


def relative(path: Path) -> str:
    return path.relative_to(DATA).as_posix()


def readme_rows() -> dict[str, dict[str, str]]:
    lines = [
        [cell.strip() for cell in line.strip("|\n").split(" | ")]
        for line in (DATA / "README.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    ]
    header, _, *rows = lines
    assert header[0].strip() == "file"
    return {row[0].strip("` "): dict(zip(header, row, strict=True)) for row in rows}


def headers(folder: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


def test_everything_fits_into_14_5_megabytes():
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) <= 14_500_000


def test_every_file_has_a_row_with_source_licence_and_attribution():
    rows = readme_rows()
    for path in FILES:
        assert any(fnmatch(relative(path), pattern) for pattern in rows), relative(path)
    for pattern, row in rows.items():
        assert all(row.values()), pattern
        assert ALLOWED.match(row["licence"]), row["licence"]
        assert any(DATA.glob(pattern)), f"{pattern} is listed and does not exist"


def test_the_folder_names_the_modality_and_the_file_name_the_patient():
    assert len(VOLUMES) >= 20
    patients = defaultdict(list)
    for path in VOLUMES:
        assert path.parent.name in {"ct", "mr"}
        found = re.match(r"(?P<patient>[a-z0-9]+_p[0-9]+)_[A-Za-z0-9]+\.nii\.gz$", path.name)
        assert found, path.name
        patients[found["patient"]].append(path.name)
    assert len(patients) >= 16
    assert sum(len(names) > 1 for names in patients.values()) >= 3


def test_volumes_differ_in_spacing_and_orientation_and_mostly_fill_a_region():
    spacings, orientations, large = set(), set(), 0
    for path in VOLUMES:
        image = nib.load(path)
        assert image.get_data_dtype() in (np.dtype(np.int16), np.dtype(np.uint8))
        assert np.isfinite(image.affine).all()
        assert np.ptp(np.asarray(image.dataobj)) > 0
        image = nib.as_closest_canonical(image)
        spacing = np.array(image.header.get_zooms())
        extent = np.array(image.shape) * spacing
        # A tenth short is filled up with background.
        large += bool((extent >= 0.9 * np.array(REGION_MM)).all())
        spacings.add(tuple(np.round(spacing, 1)))
        orientations.add(nib.aff2axcodes(nib.load(path).affine))
    assert len(spacings) >= 8
    assert len(orientations) >= 5
    assert large >= 14


def test_ct_volumes_are_in_hounsfield_units():
    for path in VOLUMES:
        if path.parent.name == "ct":
            array = np.asarray(nib.load(path).dataobj)
            assert array.min() <= -900, path.name
            soft = array[(array > -20) & (array < 120)]  # water, brain, muscle, liver
            assert soft.size > 0.04 * array.size, path.name
            assert 20 <= np.median(soft) <= 70, path.name


@pytest.mark.parametrize("name", SERIES)
def test_dicom_series_are_whole(name):
    modality, count, syntax = SERIES[name]
    slices = headers(DATA / "dicom" / name)
    assert len(slices) == count
    assert {ds.Modality for ds in slices} == {modality}
    assert {ds.file_meta.TransferSyntaxUID for ds in slices} == {syntax}
    assert len({ds.SeriesInstanceUID for ds in slices}) == 1
    assert len({ds.SOPInstanceUID for ds in slices}) == count
    positions = np.sort([float(ds.ImagePositionPatient[2]) for ds in slices])
    np.testing.assert_allclose(np.diff(positions), np.diff(positions)[0], rtol=1e-4)
    assert all(ds.pixel_array.shape == (ds.Rows, ds.Columns) for ds in slices)


def test_the_prostate_series_belong_to_one_patient_and_study():
    slices = [ds for name in SERIES if "prostate" in name for ds in headers(DATA / "dicom" / name)]
    assert {ds.PatientID for ds in slices} == {"CANARY-ID-56473829"}
    assert len({ds.StudyInstanceUID for ds in slices}) == 1


def test_every_canary_and_uid_is_really_in_the_files():
    canaries = json.loads((DATA / "canaries.json").read_text())
    paths = [path for path in FILES if relative(path).startswith(("dicom/", "trouble/"))]
    content = b"\n".join(path.read_bytes() + path.name.encode() for path in paths)
    for text in canaries["strings"] + canaries["uids"]:
        assert text.encode() in content, text
    assert len(canaries["strings"]) == 31
    assert len(canaries["uids"]) >= 60


def test_planted_identifiers_are_plain_nested_private_and_in_file_names():
    for name in SERIES:
        for ds in headers(DATA / "dicom" / name):
            assert str(ds.PatientName).startswith("Canary^")
            assert "CANARY" in ds.PatientID
            for keyword in ("PatientBirthDate", "ReferringPhysicianName", "InstitutionName"):
                assert ds[keyword].value
            assert ds.AccessionNumber
            assert ds.PatientAddress
            nested = ds.RequestAttributesSequence[0].RequestedProcedureDescription
            assert str(ds.PatientName) in nested
            assert "Canary" in ds.private_block(0x0077, "CANARY HOSPITAL 1.0")[0x01].value
    assert all("Canary_Bob" in path.name for path in (DATA / "dicom/mr_prostate_adc").iterdir())


def test_truncated_nifti_breaks_while_it_is_read():
    image = nib.load(DATA / "trouble" / "truncated.nii.gz")
    with pytest.raises(EOFError):
        np.asarray(image.dataobj)


def test_truncated_slice_has_a_header_and_too_few_pixels():
    (ds,) = headers(DATA / "trouble" / "truncated_dicom")
    assert len(ds.PixelData) < ds.Rows * ds.Columns * 2
    others = {ds.SeriesInstanceUID for name in SERIES for ds in headers(DATA / "dicom" / name)}
    assert ds.SeriesInstanceUID not in others


def test_other_trouble_is_what_its_name_says():
    trouble = DATA / "trouble"
    assert (trouble / "empty.dcm").stat().st_size == 0
    assert (trouble / "notes.txt").read_text()
    copies = [
        path
        for path in VOLUMES
        if path.read_bytes() == (trouble / "copy_of_head.nii.gz").read_bytes()
    ]
    assert len(copies) == 1
    near = nib.load(trouble / "resampled_head.nii.gz")
    original = nib.load(DATA / "nifti" / "mr" / "ms_p12_T1W.nii.gz")
    ratio = np.array(near.header.get_zooms()) / np.array(original.header.get_zooms())
    np.testing.assert_allclose(ratio, 1.4, rtol=1e-5)


def test_localizer_holds_three_orthogonal_images():
    slices = headers(DATA / "trouble" / "dicom_localizer")
    normals = [
        np.cross(*np.array(ds.ImageOrientationPatient, dtype=float).reshape(2, 3)) for ds in slices
    ]
    np.testing.assert_allclose(np.abs(np.array(normals) @ np.array(normals).T), np.eye(3))
    assert all("LOCALIZER" in ds.ImageType for ds in slices)
    assert len({ds.SeriesInstanceUID for ds in slices}) == 1


def test_hippocampus_is_a_decathlon_dataset_of_44_pairs():
    folder = DATA / "hippocampus"
    dataset = json.loads((folder / "dataset.json").read_text())
    assert dataset["numTraining"] == len(dataset["training"]) == 44
    for pair in dataset["training"]:
        image, label = nib.load(folder / pair["image"]), nib.load(folder / pair["label"])
        assert image.shape == label.shape
        np.testing.assert_allclose(image.affine, label.affine)
        assert set(np.unique(label.dataobj)) == {0, 1, 2}


def test_built_gzip_files_carry_no_time_or_name():
    built = [path for path in VOLUMES if not re.search(r"tsct_p01_slab|tsmr_p01_trunk", path.name)]
    for path in built:
        head = path.read_bytes()[:10]
        assert head[3] == 0, path.name
        assert head[4:8] == bytes(4), path.name
        assert gzip.decompress(path.read_bytes())[344:348] == b"n+1\0"
