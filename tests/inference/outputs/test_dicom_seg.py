"""From a DICOM series through the stage to a segmentation that an archive keeps beside it."""

import csv
import http.server
import json
import threading

import nibabel
import numpy as np
import pydicom
import pytest
import requests

from medssl.config.load import validate
from medssl.errors import InputError
from medssl.inference.predict import PredictConfig, predict
from medssl.io.dicom.read import read_dicom_folder
from medssl.io.nifti import write_nifti
from medssl.labelled.segmentation_object import read_masks
from tests import orthanc
from tests.finetuned import affine, finetuned, phantom
from tests.io.dicom.segmentations import complaints, write_series


def run(tmp_path, *, source=None, **settings):
    source = source or tmp_path / "in"
    given = {
        "model": finetuned() / "pretrained",
        "inputs": [source],
        "out": tmp_path / "out",
        "outputs": [{"name": "nifti"}, {"name": "dicom_seg"}],
        "tracking": {"enabled": False},
    }
    result = predict(validate(PredictConfig, {**given, **settings}, where="the test"))
    with (tmp_path / "out" / "predictions.csv").open() as file:
        return result, list(csv.DictReader(file))


def mr_series(folder):
    return write_series(folder, Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4")


def test_the_object_has_the_mask_of_the_nifti(tmp_path):
    mr_series(tmp_path / "in")
    _, (row,) = run(tmp_path)
    assert row["outcome"] == "predicted", row
    path = tmp_path / "out" / "dicom_001_seg.dcm"
    assert complaints(path) == []
    (found,) = read_dicom_folder(tmp_path / "in")
    nifti = np.asanyarray(nibabel.load(tmp_path / "out" / "dicom_001_seg.nii.gz").dataobj)
    assert nifti.any()
    assert (read_masks(path, found.volume, {1: 1, 2: 2}).array_IJK == nifti).all()


def test_a_nifti_has_no_series_to_lie_beside(tmp_path):
    (tmp_path / "in").mkdir()
    write_nifti(phantom(1)[0], affine(), tmp_path / "in" / "scan.nii.gz")
    _, (row,) = run(tmp_path)
    assert (row["outcome"], row["reason_code"]) == ("refused", "no_dicom")
    assert not list((tmp_path / "out").glob("*.dcm"))


def test_an_archive_keeps_it_beside_its_study(tmp_path):
    paths = mr_series(tmp_path / "in")
    with orthanc.running(tmp_path / "archive") as archive:
        archive.store(tmp_path / "in")
        result, (row,) = run(tmp_path, send=archive.web)
        assert row["sent"] == "1 objects"
        assert "not_sent" not in result.summary
        study = pydicom.dcmread(paths[0]).StudyInstanceUID
        url = f"http://127.0.0.1:{archive.http}/dicom-web/studies/{study}/series"
        said = requests.get(url, headers={"Accept": "application/dicom+json"}, timeout=10)
        series = said.json()
        kinds = {one["00080060"]["Value"][0]: one["0020000E"]["Value"][0] for one in series}
        assert set(kinds) == {"MR", "SEG"}
        mine = pydicom.dcmread(tmp_path / "out" / "dicom_001_seg.dcm")
        assert kinds["SEG"] == mine.SeriesInstanceUID
        wado = f"{url}/{mine.SeriesInstanceUID}/instances/{mine.SOPInstanceUID}"
        wanted = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
        assert mine.PixelData in requests.get(wado, headers=wanted, timeout=10).content


def test_one_that_cannot_be_written_does_not_end_the_others(tmp_path):
    write_series(
        tmp_path / "bad", Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4", PatientSex="X"
    )
    mr_series(tmp_path / "good")
    _, rows = run(tmp_path, inputs=[tmp_path / "bad", tmp_path / "good"])
    assert [row["outcome"] for row in rows] == ["refused", "predicted"]
    assert "cannot be written as DICOM" in rows[0]["reason"]


class Archive(http.server.BaseHTTPRequestHandler):
    """An archive that answers as it is told."""

    status, body = 409, b"{}"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.status)
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_):
        """Say nothing."""


FAILED = {"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [0xA700]}}]}}


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (409, json.dumps(FAILED), "the archive did not keep it: it has no room left"),
        (202, json.dumps([FAILED]), "the archive did not keep it: it has no room left"),
        (200, "{}", "the archive did not keep it: it gives no reason"),
        (403, "", "the archive refuses access (HTTP status 403)"),
        (404, "", "HTTP status 404"),
    ],
)
def test_what_is_not_kept_is_told(tmp_path, status, body, reason):
    mr_series(tmp_path / "in")
    answering = type("Answering", (Archive,), {"status": status, "body": body.encode()})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), answering)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"dicomweb+http://127.0.0.1:{server.server_port}"
        result, (row,) = run(tmp_path, send=address)
    finally:
        server.shutdown()
        server.server_close()
    assert row["sent"].startswith("not sent: ")
    assert reason in row["sent"]
    assert row["outcome"] == "predicted"
    assert result.summary["not_sent"] == 1


def test_a_silent_archive_is_told_after_some_patience(tmp_path):
    mr_series(tmp_path / "in")
    patience = {"tries": 2, "first_wait_s": 0.0}
    address = f"dicomweb+http://127.0.0.1:{orthanc.free_port()}"
    _, (row,) = run(tmp_path, send=address, dicomweb={"patience": patience})
    assert row["sent"].startswith("not sent: ")
    assert "tried 2 times" in row["sent"]


def test_nothing_to_send_is_told_before_anything_is_predicted(tmp_path):
    mr_series(tmp_path / "in")
    with pytest.raises(InputError, match="there is nothing to send: no output writes DICOM"):
        run(tmp_path, send="dicomweb+http://127.0.0.1:1", outputs=[{"name": "nifti"}])
