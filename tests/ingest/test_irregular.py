"""Series and files that are more or less than one regular volume, through the whole ingest."""

import gzip

import nibabel as nib
import numpy as np
import pytest
from pydicom.uid import generate_uid

from medssl.library.volumes import read_slices, read_volume
from tests import phantoms

AFFINE = phantoms.affine_ras((12, -7, 4))
ARRAY = phantoms.phantom(AFFINE)
SERIES = np.stack([ARRAY, ARRAY + 100, ARRAY + 200], axis=3)


def test_a_4d_nifti_becomes_volumes_with_keys_of_their_own_that_stay(tmp_path, ingested):
    phantoms.write_nifti(tmp_path / "in" / "bold.nii.gz", SERIES, AFFINE)
    keys = []
    for library in ("a", "b"):
        result, files, catalog = ingested(tmp_path / "in", library=library)
        assert result.summary["volumes"] == 3
        assert files["outcome"].tolist() == ["converted"]
        keys.append(catalog["volume_key"].tolist())
        means = sorted(catalog["mean"])
        np.testing.assert_allclose(np.diff(means), 100)
        assert catalog["series_key"].nunique() == 1
    assert len(set(keys[0])) == 3
    assert keys[0] == keys[1]


def test_a_4d_nifti_with_a_damaged_end_leaves_no_volume(tmp_path, ingested):
    packed = bytearray(gzip.compress(nib.Nifti1Image(SERIES, AFFINE).to_bytes()))
    packed[-6] ^= 0xFF
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bold.nii.gz").write_bytes(packed)
    _, files, catalog = ingested(tmp_path / "in")
    assert files["reason_code"].tolist() == ["damaged_compression"]
    assert len(catalog) == 0
    assert not list((tmp_path / "library" / "volumes").glob("*"))


def renumbered(folder):
    def edit(ds, _):
        ds.SeriesInstanceUID = generate_uid()

    return phantoms.write_dicom(folder, ARRAY, AFFINE, edit=edit)


def test_slices_renumbered_one_by_one_are_joined_where_that_is_asked_for(tmp_path, ingested):
    renumbered(tmp_path / "in")
    _, files, catalog = ingested(tmp_path / "in", library="no")
    assert files["reason_code"].tolist() == ["single_slices"] * 5
    assert len(catalog) == 0
    merge = {"merge_single_slices": True}
    result, files, catalog = ingested(tmp_path / "in", library="yes", irregular=merge)
    assert set(files["outcome"]) == {"converted"}
    (key,) = catalog["volume_key"]
    volume = read_volume(result.folder, key)
    assert phantoms.value_error(volume.array_IJK, volume.affine_ras) <= 1e-9
    assert {s.file_key for s in read_slices(result.folder, key).sources} == set(files["file_key"])


def test_single_slices_are_volumes_of_their_own_where_that_is_asked_for(tmp_path, ingested):
    def edit(ds, _):
        ds.SeriesInstanceUID, ds.SliceThickness = generate_uid(), 3

    phantoms.write_dicom(tmp_path / "in", ARRAY, AFFINE, edit=edit)
    _, files, catalog = ingested(tmp_path / "in", min_slices=1)
    assert set(files["outcome"]) == {"converted"}
    assert len(catalog) == 5


def test_single_slices_that_form_no_stack_are_merely_too_few(tmp_path, ingested):
    for number in range(5):  # five studies of one slice
        phantoms.write_dicom(tmp_path / "in" / str(number), ARRAY[:, :, :1], AFFINE)
    _, files, _ = ingested(tmp_path / "in")
    assert files["reason_code"].tolist() == ["too_few_slices"] * 5


@pytest.mark.parametrize("policy", ["tilt", "fill_missing", "time_series"])
def test_another_policy_converts_again(policy, tmp_path, configure, ingested):
    values = {"tilt": "quarantine", "fill_missing": 1, "time_series": "skip"}
    affine = AFFINE.copy()
    affine[:3, 2] += (0, 1, 0)
    phantoms.write_dicom(tmp_path / "in" / "tilt", phantoms.phantom(affine), affine)
    gap = phantoms.dicom_slices(phantoms.phantom(AFFINE, (7, 6, 6)), AFFINE)
    phantoms.save([*gap[:3], *gap[4:]], tmp_path / "in" / "gap")
    phantoms.write_nifti(tmp_path / "in" / "bold.nii", SERIES, AFFINE)
    _, _, before = ingested(tmp_path / "in")
    assert len(before) == 1 + 3
    _, _, after = ingested(tmp_path / "in", irregular={policy: values[policy]})
    assert len(after) == {"tilt": 3, "fill_missing": 5, "time_series": 1}[policy]
