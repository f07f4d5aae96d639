"""One series number, several stacks: copies, phases, orientations, blocks, frames."""

import shutil

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import (
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    RLELossless,
    generate_uid,
)

from medssl.io.dicom import stored
from tests import phantoms
from tests.io.dicom.outcomes import outcomes

AFFINE = phantoms.affine_ras((12, -7, 4))
ARRAY = phantoms.phantom(AFFINE)


def check(found, *, dtype=np.int16, intensity="hu", tolerance=1e-9):
    volume = found.volume
    assert phantoms.value_error(volume.array_IJK, volume.affine_ras) <= tolerance
    assert volume.array_IJK.dtype == dtype
    assert volume.intensity == intensity


@pytest.mark.parametrize("same_uid", [True, False])
def test_a_repeated_slice_is_dropped_and_counted(same_uid, tmp_path):
    slices = phantoms.dicom_slices(ARRAY, AFFINE)
    paths = phantoms.save(slices, tmp_path)
    if same_uid:
        shutil.copy(paths[1], tmp_path / "copy")
    else:
        slices[3].SOPInstanceUID = generate_uid()
        phantoms.save([slices[3]], tmp_path, seed=1)
    volumes, refused = outcomes(tmp_path)
    (found,) = volumes
    check(found)
    assert "copies_dropped" in found.flags
    assert refused == {"duplicate_slice": 1}


def test_each_slice_of_a_volume_knows_its_file(tmp_path):
    phantoms.write_dicom(tmp_path, ARRAY, AFFINE)
    ((found,), _) = outcomes(tmp_path)
    for k, source in enumerate(found.volume.slices):
        ds = dcmread(tmp_path / source.file_key)  # `outcomes` takes names for keys
        stored = np.frombuffer(ds.PixelData, np.int16).reshape(ds.Rows, ds.Columns).T
        np.testing.assert_array_equal(found.volume.array_IJK[:, :, k], stored - 1024)
        assert (source.frame_index, source.filled) == (None, False)


@pytest.mark.parametrize("told_by", ["EchoTime", "DiffusionBValue", "TemporalPositionIdentifier"])
def test_two_images_of_each_place_become_two_volumes(told_by, tmp_path):
    slices = phantoms.dicom_slices(ARRAY, AFFINE, modality="MR")
    for phase in range(2):
        for ds in slices:
            ds.SOPInstanceUID = generate_uid()
            ds.InstanceNumber = 1
            setattr(ds, told_by, phase * 5 + 1)
            ds.PixelData = (np.frombuffer(ds.PixelData, np.int16) + phase).tobytes()
        phantoms.save(slices, tmp_path, seed=phase)
    volumes, refused = outcomes(tmp_path)
    assert refused == {}
    offsets = sorted(int((found.volume.array_IJK - ARRAY).max()) for found in volumes)
    assert offsets == [0, 1]
    assert all(np.ptp(found.volume.array_IJK - ARRAY) == 0 for found in volumes)


def test_two_phases_without_tags_are_told_by_acquisition_order(tmp_path):
    slices = phantoms.dicom_slices(ARRAY, AFFINE, modality="MR")
    for phase in range(2):
        for k, ds in enumerate(slices):
            ds.SOPInstanceUID, ds.InstanceNumber = generate_uid(), phase * 5 + k + 1
            ds.PixelData = (np.frombuffer(ds.PixelData, np.int16) + phase).tobytes()
        phantoms.save(slices, tmp_path, seed=phase)
    volumes, refused = outcomes(tmp_path)
    assert refused == {}
    assert [np.ptp(found.volume.array_IJK - ARRAY) for found in volumes] == [0, 0]


def test_two_phases_in_no_clear_order_are_refused(tmp_path):
    slices = phantoms.dicom_slices(ARRAY, AFFINE, modality="MR")
    for phase in range(2):
        for k, ds in enumerate(slices):
            ds.SOPInstanceUID, ds.InstanceNumber = generate_uid(), 2 * k + phase
            ds.PixelData = (np.frombuffer(ds.PixelData, np.int16) + phase).tobytes()
        phantoms.save(slices, tmp_path, seed=phase)
    assert outcomes(tmp_path) == ([], {"ambiguous_positions": 10})


def test_jitter_of_the_echo_time_splits_nothing(tmp_path):
    phantoms.write_dicom(
        tmp_path,
        ARRAY,
        AFFINE,
        modality="MR",
        edit=lambda ds, k: setattr(ds, "EchoTime", 10 + 0.01 * (k % 2)),
    )
    ((found,), _) = outcomes(tmp_path)
    check(found, intensity="arbitrary")


def _second(ds_list, like):
    for ds in ds_list:
        ds.StudyInstanceUID, ds.SeriesInstanceUID = like.StudyInstanceUID, like.SeriesInstanceUID
        ds.FrameOfReferenceUID = like.FrameOfReferenceUID
    return ds_list


@pytest.mark.parametrize(
    "second",
    [
        {"affine": phantoms.affine_ras((90, 0, 0))},
        {"affine": AFFINE, "shape": (9, 8, 5)},
        {"affine": phantoms.affine_ras((12, -7, 4), origin=(-20.0, 31.0, 180.0))},
    ],
    ids=["orientation", "matrix", "far block"],
)
def test_two_stacks_under_one_series_number_become_two_volumes(second, tmp_path):
    first = phantoms.dicom_slices(ARRAY, AFFINE)
    array = phantoms.phantom(second["affine"], second.get("shape", phantoms.SHAPE))
    other = _second(phantoms.dicom_slices(array, second["affine"]), first[0])
    phantoms.save([*first, *other], tmp_path)
    volumes, refused = outcomes(tmp_path)
    assert refused == {}
    assert len(volumes) == 2
    for found in volumes:
        check(found)


@pytest.mark.parametrize(
    ("modality", "sop_class", "intensity"),
    [
        ("CT", LegacyConvertedEnhancedCTImageStorage, "hu"),
        ("MR", EnhancedMRImageStorage, "arbitrary"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_enhanced_frames_are_slices(modality, sop_class, intensity, compressed, tmp_path):
    ds = phantoms.enhanced(phantoms.dicom_slices(ARRAY, AFFINE, modality=modality), sop_class)
    if compressed:
        ds.compress(RLELossless)
    phantoms.save([ds], tmp_path)
    ((found,), _) = outcomes(tmp_path)
    check(found, intensity=intensity)
    assert len(found.files) == 1


def test_enhanced_frames_nobody_can_tell_apart_are_refused(tmp_path):
    slices = phantoms.dicom_slices(ARRAY, AFFINE, modality="MR")
    for ds in slices[1:]:
        ds.ImagePositionPatient = slices[0].ImagePositionPatient
    phantoms.save([phantoms.enhanced(slices, EnhancedMRImageStorage)], tmp_path)
    assert outcomes(tmp_path) == ([], {"multiframe_unsupported": 5})


@pytest.mark.parametrize("frames", [3, 4, 6])
def test_a_frame_without_its_place_is_never_dropped_in_silence(frames, tmp_path):
    ds = phantoms.enhanced(
        phantoms.dicom_slices(ARRAY, AFFINE, modality="MR"), EnhancedMRImageStorage
    )
    ds.NumberOfFrames = frames
    ds.PixelData = bytes(ds.Rows * ds.Columns * 2 * frames)
    phantoms.save([ds], tmp_path)
    assert outcomes(tmp_path) == ([], {"frames_undescribed": 5})


def test_two_copies_of_an_enhanced_file_are_decoded_once_each(tmp_path, monkeypatch):
    ds = phantoms.enhanced(
        phantoms.dicom_slices(ARRAY, AFFINE, modality="MR"), EnhancedMRImageStorage
    )
    for seed in range(2):
        phantoms.save([ds], tmp_path, seed=seed)
    decoded = []
    original = stored.pixel_array
    monkeypatch.setattr(stored, "pixel_array", lambda ds: decoded.append(1) or original(ds))
    ((found,), codes) = outcomes(tmp_path)
    check(found, intensity="arbitrary")
    assert codes == {"duplicate_slice": 5}
    assert len(decoded) == 3  # each once to compare them, the one that is used once more
