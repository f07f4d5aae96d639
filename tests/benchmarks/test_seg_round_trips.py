"""The benchmark sees a mask that came back elsewhere."""

import json

import nibabel
import numpy as np
import pytest

from pipelines.benchmarks import seg_round_trips
from tests.io.dicom.segmentations import read, write_series


@pytest.fixture
def tools():
    try:
        return {name: seg_round_trips._tool(name) for name in ("dciodvfy", "segimage2itkimage")}
    except SystemExit as error:
        pytest.skip(str(error))


def test_every_orientation_comes_back(tmp_path, capsys, monkeypatch, tools):
    monkeypatch.setattr(seg_round_trips, "DEGREES", {"oblique": (14.0, -23.0, 31.0)})
    assert seg_round_trips.main(["--out", str(tmp_path / "out.json")]) == 0
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert [(row["errors"], row["voxels_different"]) for row in rows] == [([], 0), ([], 0)]
    assert "oblique" in capsys.readouterr().out


def test_a_mirrored_mask_is_counted(tmp_path, tools):
    write_series(tmp_path / "in")
    found = read(tmp_path / "in")
    mask_IJK = np.zeros(found.volume.shape, np.uint8)
    mask_IJK[2:5, 3:6, 1] = 1
    mirrored = nibabel.Nifti1Image(mask_IJK[::-1], found.volume.affine_ras)
    nibabel.save(mirrored, tmp_path / "mask.nii.gz")
    assert seg_round_trips.difference(tmp_path / "mask.nii.gz", found, mask_IJK > 0)[0] == 18
