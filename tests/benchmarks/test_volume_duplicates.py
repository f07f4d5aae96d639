import json

import nibabel as nib
import numpy as np
import pytest

from pipelines.benchmarks import planted_volumes, volume_duplicates
from tests.curation.libraries import blobs


@pytest.fixture
def bases(tmp_path):
    folder = tmp_path / "bases"
    folder.mkdir()
    for n in range(2):
        scan = blobs(n, (44, 40, 36))
        nib.save(nib.Nifti1Image(scan.array_IJK, scan.affine_ras), folder / f"base{n}.nii.gz")
    return folder


def test_it_tells_what_was_found_and_writes_json(bases, tmp_path, capsys):
    out = tmp_path / "numbers.json"
    options = ["--patients", "2", "--visits", "0", "--workers", "1", "--out", str(out)]
    volume_duplicates.main([str(bases), *options])
    assert "recall of z_crop" in capsys.readouterr().out
    found = json.loads(out.read_text())
    for kind in ("byte_copy", "re_export", "header_lie", "resample_1.4", "z_crop", "z_shift"):
        assert found["classes"][kind]["recall"] == 1.0, kind
    assert found["identity_precision"] == found["same_split_share"] == 1.0
    assert found["wrongly_dropped"] == found["false_copies"] == 0
    assert len(found["edges"]) == sum(found["kinds"].values())


def test_a_patient_is_the_same_every_time(bases):
    base = planted_volumes.read_base(bases / "base0.nii.gz")
    one, same, other = (
        planted_volumes.patient_of(base, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert np.array_equal(one.array_IJK, same.array_IJK)
    assert not np.array_equal(one.array_IJK, other.array_IJK)


@pytest.mark.parametrize("count", [2, 3])
def test_slabs_lie_where_their_slices_lay(count):
    scan = blobs(1, (20, 20, 24))
    thick = planted_volumes.slab(count)(scan, np.random.default_rng(0))
    assert thick.shape[2] == 24 // count
    first = scan.affine_ras @ np.array([0, 0, (count - 1) / 2, 1])
    assert thick.affine_ras[:3, 3] == pytest.approx(first[:3])
    mean = scan.array_IJK[:, :, :count].mean(axis=2)
    assert thick.array_IJK[:, :, 0] == pytest.approx(mean, abs=0.51)
