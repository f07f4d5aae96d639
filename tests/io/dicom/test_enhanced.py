"""Enhanced multi-frame images: frames told apart by their groups, each with its own rescale."""

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import EnhancedCTImageStorage, EnhancedMRImageStorage

from medssl.io.dicom.read import read_dicom_folder
from tests import phantoms

AFFINE = phantoms.affine_ras(degrees=(10.0, -20.0, 5.0))
ARRAY = phantoms.phantom(AFFINE)
SLICES = ARRAY.shape[2]
STEP = 100


def enhanced(folder, frames, edit, sop_class=EnhancedMRImageStorage):
    """Write ``frames`` as one file after ``edit(groups, frame)``; frames run as they are given."""
    ds = phantoms.enhanced(frames[::-1], sop_class)
    for index, groups in enumerate(ds.PerFrameFunctionalGroupsSequence):
        edit(groups, index)
    phantoms.save([ds], folder)
    return ds


def frames(modality="MR", arrays=(ARRAY,)):
    return [ds for one in arrays for ds in phantoms.dicom_slices(one, AFFINE, modality=modality)]


def macro(groups, sequence, **values):
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    setattr(groups, sequence, [item])
    return item


def _gradient(groups, second):
    direction = Dataset()
    direction.DiffusionGradientOrientation = [1.0, 0.0, 0.0] if second else [0.0, 0.6, 0.8]
    macro(groups, "MRDiffusionSequence", DiffusionGradientDirectionSequence=[direction])


def _dimensions(groups, second):
    place = float(groups.PlanePositionSequence[0].ImagePositionPatient[2])
    values = [1, int(1000 + place), 2 if second else 1]
    macro(groups, "FrameContentSequence", DimensionIndexValues=values)


def _labelled(sequence, keyword, first, second):
    return lambda groups, is_second: macro(
        groups, sequence, **{keyword: second if is_second else first}
    )


@pytest.mark.parametrize(
    ("label", "told_by"),
    [
        (_labelled("MREchoSequence", "EffectiveEchoTime", 5.0, 80.0), "echo_ms=80"),
        (_labelled("MRDiffusionSequence", "DiffusionBValue", 0.0, 1000.0), "b_value=1000"),
        (_gradient, "gradient=no. "),
        (_labelled("FrameContentSequence", "TemporalPositionIndex", 1, 2), "time_point=2"),
        (_labelled("MRModifierSequence", "InversionTimes", 700.0, 2500.0), "inversion_ms=2500"),
        (
            _labelled(
                "MRImageFrameTypeSequence",
                "FrameType",
                ["ORIGINAL", "PRIMARY", "DIXON", "FAT"],
                ["ORIGINAL", "PRIMARY", "DIXON", "WATER"],
            ),
            "frame_type=no. 2",
        ),
        (
            _labelled("MRImageFrameTypeSequence", "ComplexImageComponent", "MAGNITUDE", "PHASE"),
            "component=PHASE",
        ),
        (_dimensions, "dimension_3=2"),
    ],
)
def test_two_images_of_each_place_are_two_volumes(label, told_by, tmp_path):
    both = frames(arrays=(ARRAY, ARRAY + STEP))
    order = np.random.default_rng(0).permutation(2 * SLICES)
    enhanced(
        tmp_path,
        [both[index] for index in order],
        lambda groups, frame: label(groups, order[frame] >= SLICES),
    )
    found = read_dicom_folder(tmp_path)
    assert len(found) == 2
    for one in found:
        second = one.volume.array_IJK.min() > ARRAY.min() + STEP / 2
        shown = one.volume.array_IJK - STEP * int(second)
        assert phantoms.value_error(shown, one.volume.affine_ras) < 1
        if second:
            assert any(fact.startswith(told_by) for fact in one.split_by)
    assert len({one.split_by for one in found}) == 2


def test_interleaved_stacks_are_not_one_finer_stack(tmp_path):
    between = AFFINE.copy()
    between[:3, 3] += AFFINE[:3, 2] / 2
    second = phantoms.dicom_slices(phantoms.phantom(between), between, modality="MR")
    enhanced(
        tmp_path,
        [*frames(), *second],
        lambda groups, frame: macro(
            groups, "FrameContentSequence", StackID="2" if frame >= SLICES else "1"
        ),
    )
    found = read_dicom_folder(tmp_path)
    assert [one.volume.shape for one in found] == [ARRAY.shape] * 2
    assert {one.split_by for one in found} == {("stack=1",), ("stack=2",)}
    for one in found:
        assert phantoms.value_error(one.volume.array_IJK, one.volume.affine_ras) < 1


def test_every_frame_has_its_own_rescale_values(tmp_path):
    several = frames()
    for index, ds in enumerate(several):
        stored = np.frombuffer(ds.PixelData, np.int16) - index
        ds.PixelData = (2 * stored).tobytes()
        ds.RescaleSlope, ds.RescaleIntercept = "0.5", str(index)
    enhanced(tmp_path, several, lambda *_: None)
    (found,) = read_dicom_folder(tmp_path)
    assert phantoms.value_error(found.volume.array_IJK, found.volume.affine_ras) < 1
    assert found.volume.array_IJK.dtype == np.float32
    assert found.flags == ()


def _real_world(groups, slope, intercept, unit):
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator = unit, "UCUM"
    macro(
        groups,
        "RealWorldValueMappingSequence",
        RealWorldValueSlope=slope,
        RealWorldValueIntercept=intercept,
        MeasurementUnitsCodeSequence=[code],
    )


def test_a_real_world_value_mapping_counts_where_there_is_no_rescale(tmp_path):
    several = frames()
    for ds in several:
        ds.PixelData = (2 * np.frombuffer(ds.PixelData, np.int16)).tobytes()
    enhanced(tmp_path, several, lambda groups, _: _real_world(groups, 0.5, 0.0, "ms"))
    (found,) = read_dicom_folder(tmp_path)
    assert phantoms.value_error(found.volume.array_IJK, found.volume.affine_ras) < 1
    assert found.flags == ("real_world_values",)
    assert found.volume.intensity == "arbitrary"


def test_rescale_values_go_before_a_real_world_value_mapping(tmp_path):
    enhanced(
        tmp_path,
        frames("CT"),
        lambda groups, _: _real_world(groups, 7.0, 3.0, "[hnsf'U]"),
        EnhancedCTImageStorage,
    )
    (found,) = read_dicom_folder(tmp_path)
    assert phantoms.value_error(found.volume.array_IJK, found.volume.affine_ras) < 1
    assert found.volume.intensity == "hu"
    assert "real_world_values" not in found.flags


@pytest.mark.parametrize(
    ("unit", "intensity"), [("[hnsf'U]", "hu"), ("ml/(100.ml).min", "arbitrary")]
)
def test_the_unit_of_a_mapping_tells_whether_a_ct_is_hounsfield(unit, intensity, tmp_path):
    several = frames("CT")
    for ds in several:
        del ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType

    def edit(groups, _):
        _real_world(groups, 1.0, float(phantoms.CT_INTERCEPT), unit)

    enhanced(tmp_path, several, edit, EnhancedCTImageStorage)
    (found,) = read_dicom_folder(tmp_path)
    assert phantoms.value_error(found.volume.array_IJK, found.volume.affine_ras) < 1
    assert found.volume.intensity == intensity
    assert "real_world_values" in found.flags


def test_private_scaling_is_never_used(tmp_path):
    def edit(groups, _):
        item = macro(groups, "PixelValueTransformationSequence", RescaleSlope=1, RescaleIntercept=0)
        block = item.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
        block.add_new(0x0E, "FL", 1e-5)
        block.add_new(0x0A, "DS", "3.5")

    enhanced(tmp_path, frames(), edit)
    (found,) = read_dicom_folder(tmp_path)
    assert phantoms.value_error(found.volume.array_IJK, found.volume.affine_ras) < 1


def test_a_file_without_a_frame_of_reference_converts(tmp_path):
    several = frames()
    for ds in several:
        del ds.FrameOfReferenceUID
    enhanced(tmp_path, several, lambda *_: None)
    (found,) = read_dicom_folder(tmp_path)
    assert phantoms.value_error(found.volume.array_IJK, found.volume.affine_ras) < 1


def test_philips_frames_keep_their_public_scale(shared):
    """dcm2niix applies the private scale too: its magnitudes are 92,000 times as large."""
    folder = shared / "data" / "dicom-cases" / "enhanced"
    if not folder.is_dir():
        pytest.skip("the enhanced files are not in 'shared'")
    found = [one for one in read_dicom_folder(folder) if one.volume.shape == (64, 64, 32)]
    (magnitude,) = (one for one in found if one.split_by == ("component=MAGNITUDE",))
    (field_hz,) = (one for one in found if one.split_by != ("component=MAGNITUDE",))
    steps = magnitude.volume.array_IJK / 1.27985347985347
    assert np.abs(steps - np.rint(steps)).max() < 1e-3
    assert 2000 < magnitude.volume.array_IJK.max() < 4095 * 1.28
    assert -500 <= field_hz.volume.array_IJK.min() < field_hz.volume.array_IJK.max() <= 500
