"""Masks of DICOM SEG objects that highdicom wrote, against the shapes that were drawn."""

from dataclasses import replace

import highdicom as hd
import numpy as np
import pytest
from scipy import ndimage

from medssl.errors import RejectedFileError
from medssl.io.deidentify import Pseudonymizer
from medssl.io.geometry import LPS_TO_RAS
from medssl.labelled.segmentation_object import (
    is_segmentation,
    read_masks,
    read_segmentation_object,
)
from medssl.labelled.volumes import dicom_headers, read_image_file
from tests.labelled.examples import (
    MR_T2,
    SHIPPED,
    ellipsoids,
    make_seg,
    middle_of,
    read_slices,
    slice_points,
    write_picture,
)

SERIES = {"oblique MR": MR_T2, "CT": SHIPPED / "dicom" / "ct_chest"}
CLASSES = {1: 1, 2: 2}


@pytest.fixture(scope="module", params=SERIES)
def series(request):
    """Slices in the order of their files, the image, and the label map drawn on its own voxels."""
    folder = SERIES[request.param]
    datasets = read_slices(folder)
    return datasets, read_image_file(folder, "unknown"), middle_of(datasets)


@pytest.fixture(scope="module")
def mr():
    return read_slices(MR_T2), read_image_file(MR_T2, "unknown"), middle_of(read_slices(MR_T2))


def drawn_on(image, middle_mm):
    """Return the label map of the ellipsoids, by the place of every voxel of the image."""
    index = np.moveaxis(np.indices(image.shape), 0, -1)
    points_RAS_mm = index @ image.affine_ras[:3, :3].T + image.affine_ras[:3, 3]
    masks = ellipsoids(points_RAS_mm @ LPS_TO_RAS[:3, :3], middle_mm)
    return masks[..., 0] * 1 + masks[..., 1] * 2


def masks_on(datasets, middle_mm):
    return np.stack([ellipsoids(slice_points(dataset), middle_mm) for dataset in datasets])


def read(tmp_path, seg, image, classes=CLASSES):
    seg.save_as(tmp_path / "seg.dcm")
    return read_masks(tmp_path / "seg.dcm", image, classes).array_IJK


def volume_of(image, array_IJK):
    """Return a highdicom Volume, whose geometry may be changed, of an array on the image's grid."""
    return hd.Volume(
        array_IJK.astype(np.uint8),
        affine=LPS_TO_RAS @ image.affine_ras,
        coordinate_system="PATIENT",
        frame_of_reference_uid=None,
    )


@pytest.mark.parametrize("order", ["as they are", "reversed", "shuffled"])
def test_masks_land_where_they_were_drawn_whatever_the_order_of_slices(series, order, tmp_path):
    datasets, image, middle_mm = series
    if order != "as they are":
        turn = np.arange(len(datasets))[::-1]
        turn = np.random.default_rng(1).permutation(turn) if order == "shuffled" else turn
        datasets = [datasets[index] for index in turn]
    seg = make_seg(datasets, masks_on(datasets, middle_mm), ("one", "two"))
    expected = drawn_on(image, middle_mm)
    assert set(np.unique(expected)) == {0, 1, 2}
    assert int(seg.NumberOfFrames) < 2 * len(datasets)  # empty slices are left out
    assert np.array_equal(read(tmp_path, seg, image), expected)


def test_segments_may_be_empty_renumbered_or_left_out(mr, tmp_path):
    datasets, image, middle_mm = mr
    masks = masks_on(datasets, middle_mm)
    nothing = np.zeros_like(masks[..., :1])
    seg = make_seg(datasets, np.concatenate([nothing, masks], axis=-1), ("none", "one", "two"))
    expected = drawn_on(image, middle_mm)
    renumbered = read(tmp_path, seg, image, {1: 3, 2: 7, 3: 1})
    assert np.array_equal(renumbered, np.array([0, 7, 1])[expected])
    assert np.array_equal(read(tmp_path, seg, image, {2: 1}), expected == 1)


@pytest.mark.parametrize("kind", ["FRACTIONAL", "LABELMAP"])
def test_other_kinds_of_seg_are_read_where_they_are_clear(kind, mr, tmp_path):
    datasets, image, middle_mm = mr
    masks = masks_on(datasets, middle_mm)
    if kind == "FRACTIONAL":
        masks = masks.astype(np.float32)
    seg = make_seg(datasets, masks, ("one", "two"), kind)
    assert np.array_equal(read(tmp_path, seg, image), drawn_on(image, middle_mm))


def test_fractions_are_not_guessed(mr, tmp_path):
    datasets, image, middle_mm = mr
    seg = make_seg(datasets, masks_on(datasets, middle_mm) * 0.4, ("one", "two"), "FRACTIONAL")
    with pytest.raises(RejectedFileError, match="fractions"):
        read(tmp_path, seg, image)


@pytest.mark.parametrize(
    "change",
    [
        lambda volume: volume.flip_spatial([0, 1]),
        lambda volume: volume.flip_spatial(2),
        lambda volume: volume.permute_spatial_axes([2, 0, 1]),
        lambda volume: volume.permute_spatial_axes([1, 2, 0]).flip_spatial(1),
    ],
)
def test_frames_may_lie_along_any_axes_of_the_image_and_cover_a_part_of_it(change, mr, tmp_path):
    datasets, image, middle_mm = mr
    expected = drawn_on(image, middle_mm)
    (low_i, high_i), (low_j, high_j), (low_k, high_k) = (
        (part.start, part.stop) for part in ndimage.find_objects((expected == 1).astype(int))[0]
    )
    whole = volume_of(image, (expected == 1))
    cut = whole[low_i - 2 : high_i + 1, low_j - 1 : high_j + 3, low_k:high_k]
    seg = make_seg(datasets, change(cut), ("one",))
    assert np.array_equal(read(tmp_path, seg, image), expected == 1)


def changed_geometry(image, expected, **changes):
    volume = volume_of(image, expected == 1)
    affine = volume.affine.copy()
    for name, value in changes.items():
        if name == "scale":
            affine[:3, :3] *= np.asarray(value)
        if name == "voxels":
            affine[:3, 3] += affine[:3, :3] @ np.asarray(value)
    return hd.Volume(volume.array, affine=affine, coordinate_system="PATIENT")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"voxels": (0.5, 0, 0)}, r"lie 0\.[0-9]+ mm beside the voxels"),
        ({"voxels": (0, 0, 0.3)}, r"lie 0\.[0-9]+ mm beside the voxels"),
        ({"voxels": (0, 0, 40)}, r"reach up to [0-9.]+ mm out of the image"),
        ({"scale": (2.0, 2.0, 1.0)}, "another size or direction"),
        ({"scale": (1.0, 1.0, 2.0)}, "another size or direction"),
        ({"scale": (0.5, 1.0, 1.0)}, "another size or direction"),
    ],
)
def test_masks_of_another_grid_are_refused(changes, said, mr, tmp_path):
    datasets, image, middle_mm = mr
    other = changed_geometry(image, drawn_on(image, middle_mm), **changes)
    with pytest.raises(RejectedFileError, match=said):
        read(tmp_path, make_seg(datasets, other, ("one",)), image)


def test_segments_of_two_classes_may_not_overlap_and_of_one_class_may(mr, tmp_path):
    datasets, image, middle_mm = mr
    masks = masks_on(datasets, middle_mm)
    masks[..., 1] |= masks[..., 0]
    seg = make_seg(datasets, masks, ("one", "two"))
    shared = int(masks[..., 0].sum())
    with pytest.raises(RejectedFileError, match=f"{shared} voxels belong to two classes"):
        read(tmp_path, seg, image)
    assert np.array_equal(read(tmp_path, seg, image, {1: 1, 2: 1}), drawn_on(image, middle_mm) > 0)


def test_masks_do_not_fit_an_image_that_was_resampled(mr, tmp_path):
    datasets, image, middle_mm = mr
    seg = make_seg(datasets, masks_on(datasets, middle_mm), ("one", "two"))
    with pytest.raises(RejectedFileError, match=r"were resampled \(tilt"):
        read(tmp_path, seg, replace(image, regularized=("tilt",)))


def test_the_header_names_segments_and_refers_to_its_series_by_pseudonym(mr, tmp_path):
    datasets, _, middle_mm = mr
    seg = make_seg(datasets, masks_on(datasets, middle_mm), ("one", " two "))
    seg.SegmentSequence[0].SegmentLabel = ""
    seg.save_as(tmp_path / "seg.dcm")
    pseudonymizer = Pseudonymizer.ephemeral()
    found = read_segmentation_object(tmp_path / "seg.dcm", pseudonymizer)
    headers, refused = dicom_headers(sorted(MR_T2.iterdir()), pseudonymizer)
    assert not refused
    assert dict(found.segments) == {1: "segment 1", 2: "two"}
    assert set(found.series) == {header.keys.series for header in headers}
    assert found.instances <= {header.keys.instance for header in headers}
    assert found.instances


def test_damaged_and_other_files_are_no_segmentations(mr, tmp_path):
    datasets, image, middle_mm = mr
    path = tmp_path / "seg.dcm"
    make_seg(datasets, masks_on(datasets, middle_mm), ("one", "two")).save_as(path)
    assert is_segmentation(path)
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(RejectedFileError):
        read_masks(path, image, CLASSES)
    assert not is_segmentation(next(MR_T2.iterdir()))
    assert not is_segmentation(write_picture(tmp_path / "a.png", 0))
    assert not is_segmentation(tmp_path / "absent")
