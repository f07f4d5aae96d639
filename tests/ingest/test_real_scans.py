"""Real series, judged in world space: sampled points of the source slices against the volume."""

import numpy as np
import pydicom
import pytest
from nibabel.orientations import aff2axcodes

from medssl.io.dicom.read import read_dicom_folder
from medssl.io.geometry import to_closest_ras

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
        ("dicom-cases/nine-transfer-syntaxes", "mosaic_unsupported", 9),
        ("dicom-cases/ge-siemens-mr/20180918GE/mr_0004", "time_series", 150),
        ("dicom-cases/d2n/generic/rgb", "secondary_capture", 4),
    ],
)
def test_irregular_series_are_refused(folder, code, count, shared, ingested):
    source = shared / "data" / folder
    if not source.is_dir():
        pytest.skip(f"{folder} is not in 'shared'")
    result, files, catalog = ingested(source)
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
