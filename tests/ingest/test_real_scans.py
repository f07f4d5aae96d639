"""Real series, judged in world space: sampled points of the source slices against the volume."""

import nibabel as nib
import numpy as np
import pydicom
import pytest
from nibabel.orientations import aff2axcodes
from scipy.ndimage import map_coordinates

from medssl.io.dicom.read import read_dicom_folder
from medssl.io.geometry import shear_degrees, to_closest_ras
from medssl.io.limits import IrregularPolicy, Limits
from medssl.io.nifti import read_nifti_checked

REGULAR = ["dicom/ct_chest", "dicom/mr_prostate_t2", "dicom/mr_prostate_adc"]
TROUBLE = {
    "truncated_dicom/IM000001.dcm": "truncated_pixel_data",
    "truncated.nii.gz": "truncated_file",
    "notes.txt": "not_dicom",
    "empty.dcm": "not_dicom",
    "dicom_localizer/1-sag.dcm": "localizer",
    "dicom_localizer/2-cor.dcm": "localizer",
    "dicom_localizer/3-tra.dcm": "localizer",
}


def world_error(found, rng, count=40):
    """Return the largest difference between source pixels and the voxels at their place."""
    volume = to_closest_ras(found.volume)
    inverse = np.linalg.inv(volume.affine_ras)
    worst = 0.0
    for path in found.files:
        ds = pydicom.dcmread(path)
        values = ds.pixel_array * float(ds.get("RescaleSlope", 1)) + float(
            ds.get("RescaleIntercept", 0)
        )
        rows, columns = rng.integers(ds.Rows, size=count), rng.integers(ds.Columns, size=count)
        cosines = np.array(ds.ImageOrientationPatient, float)
        step_mm = np.array(ds.PixelSpacing, float)
        points_lps = (
            np.array(ds.ImagePositionPatient, float)
            + np.outer(columns * step_mm[1], cosines[:3])
            + np.outer(rows * step_mm[0], cosines[3:])
        )
        points_ras = points_lps * (-1, -1, 1)
        index = points_ras @ inverse[:3, :3].T + inverse[:3, 3]
        assert np.abs(index - np.rint(index)).max() < 0.05
        i, j, k = np.rint(index).astype(int).T
        difference = np.abs(volume.array_IJK[i, j, k] - values[rows, columns])
        worst = max(worst, float(difference.max()))
    return worst


@pytest.mark.parametrize("name", REGULAR)
def test_shipped_series_lie_where_their_slices_do(name, shipped):
    (found,) = read_dicom_folder(shipped / name)
    assert world_error(found, np.random.default_rng(0)) == 0
    assert aff2axcodes(to_closest_ras(found.volume).affine_ras) == ("R", "A", "S")
    assert found.volume.intensity == ("hu" if "ct" in name else "arbitrary")
    assert len(found.files) == found.volume.shape[2]


def test_trouble_ends_in_the_table_with_its_reason(shipped, ingested, configure):
    from medssl.library.outcomes import read_paths

    result, files, _ = ingested(shipped / "trouble", modalities={"*": "MR"})
    names = {key: path.split("/trouble/")[1] for key, path in read_paths(result.folder).items()}
    reasons = dict(zip(files["file_key"].map(names), files["reason_code"], strict=True))
    assert {name: code for name, code in reasons.items() if code} == TROUBLE
    assert result.summary["volumes"] == 2


@pytest.mark.parametrize(
    ("folder", "code", "count"),
    [
        ("dicom-series/ge_head_ct_tilt", "gantry_tilt", 28),
        ("dicom-cases/d2n/failing/gantrytilting", "gantry_tilt", 4),
        ("dicom-cases/d2n/failing/sliceincrement", "missing_slices", 4),
        ("dicom-cases/ge-siemens-mr/20180918GE/mr_0004", "time_series", 150),
        ("dicom-cases/d2n/generic/rgb", "secondary_capture", 4),
    ],
)
def test_irregular_series_are_refused_where_that_is_the_policy(
    folder, code, count, shared, ingested
):
    source = shared / "data" / folder
    if not source.is_dir():
        pytest.skip(f"{folder} is not in 'shared'")
    strict = {"tilt": "quarantine", "time_series": "skip"}
    result, files, catalog = ingested(source, irregular=strict)
    assert files["reason_code"].value_counts().to_dict() == {code: count}
    assert len(catalog) == result.summary["volumes"] == 0


@pytest.mark.parametrize(
    ("folder", "volumes"),
    [
        ("dicom-series/acrin_chest_ct", 1),
        ("dicom-cases/decubitus-right/2_t1_fl2d_sag", 1),
        ("dicom-cases/multi-echo/2_me_FieldMap_GRE", 2),
        ("dicom-cases/d2n/generic/compressed_jpeg", 1),
        ("dicom-cases/d2n/philips/anatomical/002", 2),  # magnitude and phase
    ],
)
def test_regular_series_lie_where_their_slices_do(folder, volumes, shared):
    source = shared / "data" / folder
    if not source.is_dir():
        pytest.skip(f"{folder} is not in 'shared'")
    found = read_dicom_folder(source)
    assert len(found) == volumes
    for volume in found:
        assert world_error(volume, np.random.default_rng(0)) <= 0.01


def resampled_error(found, rng, count=400):
    """Return the largest difference to the source slices, interpolated in their planes by hand."""
    volume, worst = found.volume, 0.0
    for k, header in enumerate(found.slices):
        ds, plane = pydicom.dcmread(header.path), header.plane
        hu = ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
        hu[hu == ds.get("PixelPaddingValue")] = -1000
        i, j = (rng.integers(size, size=count) for size in volume.shape[:2])
        points_ras = np.stack([i, j, np.full(count, k)], 1) @ volume.affine_ras[:3, :3].T
        moved = (points_ras + volume.affine_ras[:3, 3]) * (-1, -1, 1) - plane.origin_LPS_mm
        assert np.abs(moved @ plane.normal_LPS).max() < 0.01
        column = moved @ np.array(plane.row_LPS) / plane.spacing_mm[1]
        row = moved @ np.array(plane.column_LPS) / plane.spacing_mm[0]
        inside = (row > 0) & (row < ds.Rows - 1) & (column > 0) & (column < ds.Columns - 1)
        r, c = np.floor(row[inside] + 1e-4).astype(int), np.rint(column[inside]).astype(int)
        part = row[inside] - r
        truth = (1 - part) * hu[r, c] + part * hu[np.minimum(r + 1, ds.Rows - 1), c]
        difference = np.abs(volume.array_IJK[i[inside], j[inside], k] - truth)
        worst = max(worst, float(difference.max()))
    return worst


@pytest.mark.parametrize(
    ("folder", "slices"),
    [("dicom-series/ge_head_ct_tilt", [14, 14]), ("dicom-cases/d2n/failing/gantrytilting", [4])],
)
def test_tilted_series_show_their_slices_shifted_in_their_planes(folder, slices, shared):
    source = shared / "data" / folder
    if not source.is_dir():
        pytest.skip(f"{folder} is not in 'shared'")
    found = read_dicom_folder(source)
    assert [one.volume.shape[2] for one in found] == slices
    for volume in found:
        assert volume.volume.regularized == ("tilt",)
        assert shear_degrees(volume.volume.affine_ras) < 1e-5
        assert resampled_error(volume, np.random.default_rng(0)) <= 0.7  # half a unit of rounding


def test_a_real_gap_is_filled_where_that_is_asked_for(shared):
    source = shared / "data" / "dicom-cases/d2n/failing/sliceincrement"
    if not source.is_dir():
        pytest.skip("the series is not in 'shared'")
    (found,) = read_dicom_folder(source, Limits(policy=IrregularPolicy(fill_missing=1)))
    volume = found.volume
    assert [slice_.filled for slice_ in volume.slices] == [False, False, False, True, False]
    np.testing.assert_allclose(
        volume.array_IJK[:, :, 3],
        volume.array_IJK[:, :, [2, 4]].mean(axis=2),
        atol=0.5,
    )
    assert world_error(found, np.random.default_rng(0)) == 0


def test_a_real_sheared_nifti_becomes_a_box(shared):
    source = shared / "data" / "volumes/ct/niivue_head_ct_shear.nii.gz"
    if not source.is_file():
        pytest.skip("the file is not in 'shared'")
    image = nib.load(source)
    stored = np.asarray(image.dataobj)
    volume = read_nifti_checked(source, "CT", Limits()).volume
    assert volume.regularized == ("shear",)
    assert shear_degrees(volume.affine_ras) < 1e-5
    rng = np.random.default_rng(0)
    index = np.stack([rng.integers(n, size=3000) for n in volume.shape], 1)
    place = np.linalg.solve(image.affine, volume.affine_ras)
    at = index @ place[:3, :3].T + place[:3, 3]
    inside = ((at > 0) & (at < np.array(stored.shape) - 1)).all(axis=1)
    expected = map_coordinates(stored.astype(float), at[inside].T, order=1)
    assert np.abs(volume.array_IJK[tuple(index[inside].T)] - expected).max() <= 0.6


@pytest.mark.parametrize(
    ("folder", "volumes", "slices"),
    [
        ("dicom-cases/ge-siemens-mr/20180918GE/mr_0004", 10, 15),
        ("dicom-cases/d2n/siemens/fmri_classic/001", 2, 4),
    ],
)
def test_time_points_become_volumes(folder, volumes, slices, shared):
    source = shared / "data" / folder
    if not source.is_dir():
        pytest.skip(f"{folder} is not in 'shared'")
    found = read_dicom_folder(source)
    assert len(found) == volumes
    assert {one.volume.shape[2] for one in found} == {slices}
    assert len({one.split_by for one in found}) == volumes
    assert len({header.path for one in found for header in one.slices}) == volumes * slices
    for one in found[:2]:
        assert world_error(one, np.random.default_rng(0)) == 0


@pytest.mark.parametrize("folder", ["enhanced/XA10", "d2n/siemens_multiframe/anatomical/001"])
def test_enhanced_series_have_one_slice_per_frame(folder, shared):
    source = shared / "data" / "dicom-cases" / folder
    if not source.is_dir():
        pytest.skip(f"{folder} is not in 'shared'")
    for found in read_dicom_folder(source):
        assert len(found.files) == 1
        ds = pydicom.dcmread(found.files[0])
        assert found.volume.shape[2] == ds.NumberOfFrames
        assert found.volume.shape[:2] == (ds.Columns, ds.Rows)
