"""Many images of each place, and what tells volumes apart: every label, and what is none."""

import shutil

import numpy as np
import pytest
from pydicom.uid import generate_uid

from medssl.io.limits import IrregularPolicy, Limits
from tests import phantoms
from tests.io.dicom.outcomes import outcomes

AFFINE = phantoms.affine_ras((12, -7, 4))
ARRAY = phantoms.phantom(AFFINE)


def check(found, *, tolerance=1e-9):
    volume = found.volume
    assert phantoms.value_error(volume.array_IJK, volume.affine_ras) <= tolerance


def repeated(folder, count, label, *, slices=None, last=None):
    """Write ``count`` images of each place; ``label(ds, phase, k)`` says which they are."""
    slices = slices or phantoms.dicom_slices(ARRAY, AFFINE, modality="MR")
    for phase in range(count):
        for k, ds in enumerate(slices):
            ds.SOPInstanceUID = generate_uid()
            ds.PixelData = (ARRAY[:, :, k] + phase).T.astype(np.int16).tobytes()
            label(ds, phase, k)
        phantoms.save(slices[:last] if phase == count - 1 else slices, folder, seed=phase)


def offsets(volumes):
    """Return by how much each volume differs from ``ARRAY``, which must be one number."""
    found = [volume.volume.array_IJK.astype(int) - ARRAY for volume in volumes]
    assert all(np.ptp(one) == 0 for one in found)
    return [int(one.max()) for one in found]


def by_time(ds, phase, _):
    ds.TemporalPositionIdentifier = phase + 1


def test_a_long_time_series_becomes_volumes_up_to_the_limit(tmp_path):
    repeated(tmp_path, 12, by_time)
    volumes, refused = outcomes(tmp_path)
    assert refused == {}
    assert sorted(offsets(volumes)) == list(range(12))
    assert {found.split_by for found in volumes} == {(f"time_point={t}",) for t in range(1, 13)}
    for policy in ({"most_volumes": 11}, {"time_series": "skip"}):
        limits = Limits(policy=IrregularPolicy(**policy))
        assert outcomes(tmp_path, limits) == ([], {"time_series": 60})


def test_labels_are_used_together_and_those_that_tell_nothing_are_left_out(tmp_path):
    def label(ds, phase, k):
        ds.EchoTime, ds.TemporalPositionIdentifier = 5 + 10 * (phase % 2), 1 + phase // 2
        ds.TriggerTime = 100 * k + phase / 7  # of the slice, not of the volume

    repeated(tmp_path, 6, label)
    volumes, refused = outcomes(tmp_path)
    assert refused == {}
    facts = {
        found.split_by: offset for found, offset in zip(volumes, offsets(volumes), strict=True)
    }
    assert facts == {
        (f"echo_ms={echo}", f"time_point={time}"): 2 * (time - 1) + (echo == 15)
        for echo in (5, 15)
        for time in (1, 2, 3)
    }


def test_images_that_share_all_labels_are_told_by_their_order(tmp_path):
    def label(ds, phase, k):
        ds.DiffusionBValue, ds.InstanceNumber = 0.0 if phase == 0 else 1000.0, 5 * phase + k

    repeated(tmp_path, 4, label)
    volumes, _ = outcomes(tmp_path)
    facts = dict(zip([v.split_by for v in volumes], offsets(volumes), strict=True))
    assert facts == {
        ("b_value=0",): 0,
        ("b_value=1000", "order=1"): 1,
        ("b_value=1000", "order=2"): 2,
        ("b_value=1000", "order=3"): 3,
    }


def test_a_time_point_that_was_cut_short_leaves_the_others(tmp_path):
    repeated(tmp_path, 4, by_time, last=3)
    volumes, refused = outcomes(tmp_path)
    assert sorted(offsets(volumes)) == [0, 1, 2]
    assert refused == {"incomplete_volume": 3}


def test_empty_slices_of_two_time_points_are_no_copies(tmp_path):
    slices = phantoms.dicom_slices(ARRAY, AFFINE, modality="MR")
    for phase in range(2):
        for k, ds in enumerate(slices):
            ds.SOPInstanceUID, ds.InstanceNumber = generate_uid(), 5 * phase + k
            ds.PixelData = np.full(42, 0 if k == 0 else 10 + phase, np.int16).tobytes()
        phantoms.save(slices, tmp_path, seed=phase)
    volumes, refused = outcomes(tmp_path)
    assert refused == {}
    assert [int(found.volume.array_IJK.max()) for found in volumes] == [10, 11]


@pytest.mark.parametrize(
    ("keyword", "values", "facts"),
    [
        ("ConvolutionKernel", ["B30f", "B70f"], {("kernel=1",), ("kernel=2",)}),
        (
            "ComplexImageComponent",
            ["MAGNITUDE", "PHASE"],
            {("component=MAGNITUDE",), ("component=PHASE",)},
        ),
        ("ComplexImageComponent", ["MAGNITUDE", "DOE"], {("component=1",), ("component=2",)}),
    ],
    ids=lambda value: "" if isinstance(value, set) else str(value),
)
def test_kernels_and_components_never_mix_even_side_by_side(keyword, values, facts, tmp_path):
    array = phantoms.phantom(AFFINE, (7, 6, 10))
    phantoms.write_dicom(
        tmp_path, array, AFFINE, edit=lambda ds, k: setattr(ds, keyword, values[k // 5])
    )
    volumes, refused = outcomes(tmp_path)
    assert refused == {}
    for found in volumes:
        check(found)
        assert found.volume.shape[2] == 5
    assert {found.split_by for found in volumes} == facts


@pytest.mark.parametrize(
    "varying",
    ["StudyTime", "SeriesTime", "AcquisitionTime", "AcquisitionNumber", "Exposure", "TriggerTime"],
)
def test_what_changes_from_slice_to_slice_splits_nothing(varying, tmp_path):
    phantoms.write_dicom(
        tmp_path, ARRAY, AFFINE, edit=lambda ds, k: setattr(ds, varying, str(100101 + k))
    )
    ((found,), refused) = outcomes(tmp_path)
    check(found)
    assert (refused, found.split_by) == ({}, ())


def test_two_reconstructions_of_other_pixel_sizes_are_two_volumes(tmp_path):
    zoomed = phantoms.affine_ras((12, -7, 4), spacing_mm=(1.0, 1.5, 3.0))
    slices = phantoms.dicom_slices(ARRAY, AFFINE)
    second = phantoms.dicom_slices(phantoms.phantom(zoomed), zoomed)
    for ds in second:
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
            setattr(ds, keyword, slices[0][keyword].value)
    phantoms.save([*slices, *second], tmp_path)
    volumes, refused = outcomes(tmp_path)
    assert refused == {}
    assert {found.split_by for found in volumes} == {("pixel_mm=1.5",), ("pixel_mm=2",)}
    for found in volumes:
        check(found)


def test_a_near_copy_is_dropped_and_a_near_place_is_refused(tmp_path):
    slices = phantoms.dicom_slices(ARRAY, AFFINE)
    phantoms.save(slices, tmp_path)
    near = slices[2]
    near.SOPInstanceUID = generate_uid()
    x, y, z = map(float, near.ImagePositionPatient)
    near.ImagePositionPatient = [x, y, z + 0.01]
    (path,) = phantoms.save([near], tmp_path, seed=1)
    volumes, refused = outcomes(tmp_path)
    check(volumes[0], tolerance=0.04)
    assert refused == {"duplicate_slice": 1}
    near.PixelData = bytes(len(near.PixelData))
    path.unlink()
    phantoms.save([near], tmp_path, seed=1)
    assert outcomes(tmp_path) == ([], {"ambiguous_positions": 6})


def test_jitter_of_position_and_orientation_bends_nothing(tmp_path):
    rng = np.random.default_rng(0)

    def shake(ds, _):
        ds.ImagePositionPatient = [
            f"{float(v) + rng.uniform(-4e-6, 4e-6):.9f}" for v in ds.ImagePositionPatient
        ]
        ds.ImageOrientationPatient = [
            f"{float(v) + rng.uniform(-3e-5, 3e-5):.9f}" for v in ds.ImageOrientationPatient
        ]

    phantoms.write_dicom(tmp_path, ARRAY, AFFINE, edit=shake)
    ((found,), refused) = outcomes(tmp_path)
    check(found, tolerance=1)
    assert (refused, found.volume.regularized) == ({}, ())


def test_two_coordinate_systems_are_never_one_volume(tmp_path):
    phantoms.write_dicom(
        tmp_path,
        ARRAY,
        AFFINE,
        edit=lambda ds, k: setattr(ds, "FrameOfReferenceUID", f"1.2.{1 + k // 3}"),
    )
    assert outcomes(tmp_path) == ([], {"frame_of_reference_varies": 5})


@pytest.mark.parametrize("seed", range(3))
def test_names_and_order_of_files_change_neither_volumes_nor_facts(seed, tmp_path):
    def label(ds, phase, k):
        ds.EchoTime, ds.InstanceNumber = 5 + 10 * (phase % 2), 5 * (phase // 2) + k
        ds.SOPInstanceUID = f"1.2.3.{phase}.{k + 1}"

    repeated(tmp_path / "a", 4, label)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    (tmp_path / "b").mkdir()
    for name, place in zip(names, np.random.default_rng(seed).permutation(20), strict=True):
        shutil.copy(tmp_path / "a" / name, tmp_path / "b" / f"{place:02d}")
    one, other = (
        {found.split_by: found.volume.array_IJK.tobytes() for found in outcomes(tmp_path / f)[0]}
        for f in "ab"
    )
    assert one == other
    assert len(one) == 4
