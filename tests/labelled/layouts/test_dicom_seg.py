import highdicom as hd
import numpy as np
import pydicom
import pytest

from medssl.errors import InputError
from medssl.labelled.cases import read_pair
from medssl.labelled.read import read_labelled
from tests.labelled.examples import dicom_seg, ellipsoids, make_seg, middle_of, slice_points


def seg_of(folder, labels=("zone", "apex")):
    """Return another SEG on the series of a folder."""
    datasets = [pydicom.dcmread(path) for path in sorted((folder / "mr").iterdir())]
    middle_mm = middle_of(datasets)
    masks = np.stack([ellipsoids(slice_points(dataset), middle_mm) for dataset in datasets])
    return make_seg(datasets, masks[..., : len(labels)], labels)


def test_every_seg_is_a_case_and_patients_are_never_named(tmp_path):
    labelled = read_labelled(dicom_seg(tmp_path / "scans"))
    assert labelled.labels == ("background", "apex", "zone")
    assert labelled.modality == "MR"
    assert [case.patient_key for case in labelled.cases] == ["patient-001", "patient-002"]
    assert [case.classes for case in labelled.cases] == [(1, 2), (1, 2)]
    assert labelled.cases[0].about["scanner"] == "siemens"
    assert "canary" not in repr(labelled)
    image, label_IJK = read_pair(labelled.cases[0], "unknown")
    assert image.shape == label_IJK.shape
    assert image.modality == "MR"


def test_cases_of_one_patient_share_a_key_by_what_the_headers_say(tmp_path):
    folder = dicom_seg(tmp_path / "scans")
    for path in (folder / "case_1" / "mr").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.PatientID = "canary-0"
        dataset.save_as(path)
    keys = [case.patient_key for case in read_labelled(folder).cases]
    assert keys == ["patient-001", "patient-001"]


def test_classes_go_by_the_names_of_segments_not_by_their_numbers(tmp_path):
    folder = dicom_seg(tmp_path / "scans")
    before = read_labelled(folder)
    seg_of(folder / "case_1", ("apex", "zone")).save_as(folder / "case_1" / "seg.dcm")
    labelled = read_labelled(folder)
    assert labelled.labels == ("background", "apex", "zone")
    (_, one), (_, other) = (read_pair(found.cases[1], "MR") for found in (before, labelled))
    assert np.array_equal(other, np.array([0, 2, 1])[one])


def test_a_series_without_seg_is_left_out_with_a_warning(tmp_path):
    folder = dicom_seg(tmp_path / "scans")
    (folder / "case_1" / "seg.dcm").unlink()
    labelled = read_labelled(folder)
    assert len(labelled.cases) == 1
    assert labelled.warnings == ("1 series without a DICOM SEG are left out",)


def test_segs_that_cannot_be_paired_are_problems(tmp_path):
    folder = dicom_seg(tmp_path / "scans")
    seg_of(folder / "case_0").save_as(folder / "case_0" / "twice.dcm")
    stranger = seg_of(folder / "case_0")
    stranger.ReferencedSeriesSequence[0].SeriesInstanceUID = hd.UID()
    for groups in stranger.PerFrameFunctionalGroupsSequence:
        del groups.DerivationImageSequence
    stranger.save_as(folder / "stranger.dcm")
    empty = seg_of(folder / "case_1")
    empty.SegmentSequence = []
    empty.save_as(folder / "vacant.dcm")
    seg_of(folder / "case_1", ("Background",)).save_as(folder / "void.dcm")
    with pytest.raises(InputError) as caught:
        read_labelled(folder)
    for line in (
        r"4 problem\(s\)",
        r"case-002 \(twice.dcm\): the same image as case-001",
        r"case-004: a DICOM SEG needs the one series .*: none lies in the folder",
        r"case-005: the DICOM SEG cannot be read: it describes no segment",
        r"case-006: the DICOM SEG describes nothing but background",
    ):
        caught.match(line)


def test_a_seg_without_series_reference_is_paired_by_its_images(tmp_path):
    folder = dicom_seg(tmp_path / "scans")
    seg = seg_of(folder / "case_1")
    del seg.ReferencedSeriesSequence
    before = read_labelled(folder)
    seg.save_as(folder / "case_1" / "seg.dcm")
    assert [case.files for case in read_labelled(folder).cases] == [c.files for c in before.cases]


def test_of_a_series_of_two_kinds_the_one_that_was_drawn_on_is_read(tmp_path):
    folder = dicom_seg(tmp_path / "scans", cases=1)
    before, seg = read_labelled(folder), seg_of(folder / "case_0")
    for path in sorted((folder / "case_0" / "mr").iterdir()):
        dataset = pydicom.dcmread(path)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = hd.UID()
        dataset.ImageType = ["DERIVED", "SECONDARY", "M", "NORM"]
        dataset.save_as(path.with_name(f"derived_{path.name}"))
    assert read_labelled(folder).cases[0].files == before.cases[0].files
    for groups in seg.PerFrameFunctionalGroupsSequence:
        del groups.DerivationImageSequence
    seg.save_as(folder / "case_0" / "seg.dcm")
    with pytest.raises(InputError, match=r"its series makes 2 volumes, not one: image_type"):
        read_labelled(folder)
