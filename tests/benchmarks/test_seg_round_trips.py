"""The benchmark sees a mask that came back elsewhere."""

import json

import nibabel
import numpy as np
import pydicom
import pytest
import requests

from pipelines.benchmarks import seg_round_trips
from pipelines.benchmarks.cases.orthanc import NoArchiveError
from tests import orthanc
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
    printed = capsys.readouterr().out
    assert "oblique" in printed
    for row in rows:
        assert row["orthanc"] == seg_round_trips.KEPT or row["orthanc"].startswith("- (")


def test_without_an_archive_the_rest_is_compared(tmp_path, monkeypatch, tools):
    def none(_folder):
        raise NoArchiveError("not installed: Orthanc")

    monkeypatch.setattr(seg_round_trips, "running", none)
    monkeypatch.setattr(seg_round_trips, "DEGREES", {"axial": (0.0, 0.0, 0.0)})
    assert seg_round_trips.main(["--out", str(tmp_path / "out.json")]) == 0
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert {row["orthanc"] for row in rows} == {"- (not installed: Orthanc)"}


def test_what_an_archive_changes_is_told(tmp_path, tools, monkeypatch):
    series = tmp_path / "axial"
    seg_round_trips.round_trip(series, (0.0, 0.0, 0.0), backwards=False, tools=tools)
    with orthanc.running(tmp_path / "archive") as archive:
        assert seg_round_trips.kept_by(archive, series) == seg_round_trips.KEPT
        given = seg_round_trips._one_part
        zeroed = pydicom.dcmread(series / "seg.dcm")
        zeroed.PixelData = bytes(len(zeroed.PixelData))
        zeroed.save_as(tmp_path / "zeroed.dcm")
        content = (tmp_path / "zeroed.dcm").read_bytes()
        monkeypatch.setattr(seg_round_trips, "_one_part", lambda _url: content)
        assert seg_round_trips.kept_by(archive, series) == "other pixels"
        monkeypatch.setattr(seg_round_trips, "_one_part", given)
        lost = pydicom.dcmread(next(iter(sorted((series / "in").iterdir()))))
        found = requests.post(
            f"http://127.0.0.1:{archive.http}/tools/lookup", data=lost.SOPInstanceUID, timeout=9
        )
        url = f"http://127.0.0.1:{archive.http}{found.json()[0]['Path']}"
        assert requests.delete(url, timeout=9).ok
        store = seg_round_trips.WebStore.send
        monkeypatch.setattr(
            seg_round_trips.WebStore,
            "send",
            lambda self, path: store(self, path) if path.name == "seg.dcm" else None,
        )
        assert seg_round_trips.kept_by(archive, series) == "refers to what is not in its study"


def test_a_mirrored_mask_is_counted(tmp_path, tools):
    write_series(tmp_path / "in")
    found = read(tmp_path / "in")
    mask_IJK = np.zeros(found.volume.shape, np.uint8)
    mask_IJK[2:5, 3:6, 1] = 1
    mirrored = nibabel.Nifti1Image(mask_IJK[::-1], found.volume.affine_ras)
    nibabel.save(mirrored, tmp_path / "mask.nii.gz")
    assert seg_round_trips.difference(tmp_path / "mask.nii.gz", found, mask_IJK > 0)[0] == 18
