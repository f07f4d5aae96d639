"""A mask comes back voxel by voxel at its place in the patient, whoever reads the DICOM SEG."""

import numpy as np
import pydicom
import pytest

from medssl.errors import RejectedFileError
from medssl.io.dicom.derived import write_object
from medssl.io.dicom.segmentation_writer import segmentation_object
from medssl.io.dicom.structure_codes import CodeConfig
from medssl.labelled.segmentation_object import read_masks
from tests import phantoms
from tests.io.dicom.segmentations import (
    NAMES,
    ORIENTATIONS,
    SHAPE,
    as_dcmqi_reads,
    complaints,
    numbers,
    on_grid,
    read,
    write_series,
)


def written(found, path, masks=None, names=NAMES, **options):
    masks = numbers(found.volume.shape) if masks is None else masks
    derived = segmentation_object(
        found.volume, found.slices, masks, names, model="a model", **options
    )
    write_object(derived, path)
    return path


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_masks_come_back_on_the_same_voxels(tmp_path, orientation, backwards):
    write_series(tmp_path / "in", ORIENTATIONS[orientation], backwards=backwards)
    found = read(tmp_path / "in")
    path = written(found, tmp_path / "seg.dcm")
    expected = numbers(found.volume.shape)
    assert complaints(path) == []
    assert (read_masks(path, found.volume, {1: 1, 2: 2}).array_IJK == expected).all()
    segments = as_dcmqi_reads(path, tmp_path / "dcmqi")
    assert len(segments) == len(NAMES)
    for number, (mask, affine) in enumerate(segments, start=1):
        assert (on_grid(mask, affine, found.volume) == (expected == number)).all()


def test_the_validator_sees_what_is_missing(tmp_path):
    write_series(tmp_path / "in")
    seg = pydicom.dcmread(written(read(tmp_path / "in"), tmp_path / "seg.dcm"))
    del seg.SegmentSequence[0].SegmentedPropertyTypeCodeSequence
    seg.save_as(tmp_path / "damaged.dcm")
    assert complaints(tmp_path / "damaged.dcm")


def test_overlapping_masks_stay_apart(tmp_path):
    write_series(tmp_path / "in")
    found = read(tmp_path / "in")
    first = numbers(found.volume.shape) > 0
    second = numbers(found.volume.shape) == 1
    path = written(found, tmp_path / "seg.dcm", masks=np.stack([first, second]))
    assert complaints(path) == []
    ones = read_masks(path, found.volume, {1: 1}).array_IJK
    twos = read_masks(path, found.volume, {2: 1}).array_IJK
    assert (ones == first).all()
    assert (twos == second).all()


def test_it_belongs_to_the_study_and_names_every_slice_it_lies_on(tmp_path):
    paths = write_series(tmp_path / "in", SeriesNumber=4)
    found = read(tmp_path / "in")
    seg = pydicom.dcmread(written(found, tmp_path / "seg.dcm"))
    source = pydicom.dcmread(paths[0])
    assert seg.StudyInstanceUID == source.StudyInstanceUID
    assert seg.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert seg.SeriesInstanceUID != source.SeriesInstanceUID
    assert seg.SeriesNumber == 1004
    (referenced,) = seg.ReferencedSeriesSequence
    named = {item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence}
    assert named == {pydicom.dcmread(path).SOPInstanceUID for path in paths}
    kidney, kernel = seg.SegmentSequence
    (kind,) = kidney.SegmentedPropertyTypeCodeSequence
    assert (kind.CodeMeaning, kind.CodingSchemeDesignator) == ("Kidney", "SCT")
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    assert kernel.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator == "99MEDSSL"
    assert kidney.TrackingUID != kernel.TrackingUID


def test_codes_may_be_given(tmp_path):
    write_series(tmp_path / "in")
    found = read(tmp_path / "in")
    given = {"kernel": CodeConfig(value="39607008", meaning="Lung")}
    seg = pydicom.dcmread(written(found, tmp_path / "seg.dcm", codes_of=given))
    assert seg.SegmentSequence[1].SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Lung"


def test_an_empty_mask_is_a_segmentation_too(tmp_path):
    write_series(tmp_path / "in")
    found = read(tmp_path / "in")
    path = written(found, tmp_path / "seg.dcm", masks=numbers(found.volume.shape) * 0)
    assert complaints(path) == []
    assert not read_masks(path, found.volume, {1: 1, 2: 2}).array_IJK.any()


def test_frames_of_one_file_keep_their_places(tmp_path):
    affine = phantoms.affine_ras(ORIENTATIONS["oblique"])
    slices = phantoms.dicom_slices(phantoms.phantom(affine, SHAPE), affine, modality="CT")
    one = phantoms.enhanced(slices, "1.2.840.10008.5.1.4.1.1.2.1")
    phantoms.save([one], tmp_path / "in")
    found = read(tmp_path / "in")
    path = written(found, tmp_path / "seg.dcm")
    expected = numbers(found.volume.shape)
    assert (read_masks(path, found.volume, {1: 1, 2: 2}).array_IJK == expected).all()


def test_masks_on_resampled_slices_are_refused(tmp_path):
    def shifted(ds, k):
        ds.SliceThickness = 3
        position = [float(x) for x in ds.ImagePositionPatient]
        ds.ImagePositionPatient = [position[0], position[1] + 0.8 * k, position[2]]

    affine = phantoms.affine_ras()
    phantoms.write_dicom(tmp_path / "in", phantoms.phantom(affine, SHAPE), affine, edit=shifted)
    found = read(tmp_path / "in")
    assert found.volume.regularized
    with pytest.raises(RejectedFileError, match="its masks lie on no slice"):
        written(found, tmp_path / "seg.dcm")


def test_no_frame_of_reference_is_told(tmp_path):
    write_series(tmp_path / "in", FrameOfReferenceUID="")
    found = read(tmp_path / "in")
    with pytest.raises(RejectedFileError, match="names no frame of reference"):
        written(found, tmp_path / "seg.dcm")


def test_what_is_no_dicom_has_no_series(tmp_path):
    write_series(tmp_path / "in")
    found = read(tmp_path / "in")
    with pytest.raises(RejectedFileError, match="of DICOM inputs only"):
        segmentation_object(found.volume, (), numbers(found.volume.shape), NAMES, model="a model")


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"),
        ("ISO_IR 100", "Müller^Jörg"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
    ],
)
def test_letters_of_the_patient_and_of_the_model_are_kept(tmp_path, charset, name):
    write_series(tmp_path / "in", SpecificCharacterSet=charset, PatientName=name)
    found = read(tmp_path / "in")
    seg = pydicom.dcmread(written(found, tmp_path / "seg.dcm", names=("肝臓", "äußeres Horn")))
    assert str(seg.PatientName) == name
    assert [segment.SegmentLabel for segment in seg.SegmentSequence] == ["肝臓", "äußeres Horn"]


def test_slices_need_not_say_how_thick_they_are(tmp_path):
    for path in write_series(tmp_path / "in"):
        ds = pydicom.dcmread(path)
        del ds.SliceThickness
        ds.save_as(path)
    found = read(tmp_path / "in")
    path = written(found, tmp_path / "seg.dcm")
    assert complaints(path) == []
    expected = numbers(found.volume.shape)
    assert (read_masks(path, found.volume, {1: 1, 2: 2}).array_IJK == expected).all()


def test_what_dicom_cannot_hold_is_told(tmp_path):
    write_series(tmp_path / "in")
    found = read(tmp_path / "in")
    masks = numbers(found.volume.shape)
    with pytest.raises(RejectedFileError, match="cannot be written as DICOM"):
        segmentation_object(found.volume, found.slices, masks, NAMES, model="a\\b")
