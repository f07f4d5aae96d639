import pytest

from medssl.cli import doctor
from medssl.cli.doctor import Finding
from medssl.errors import InputError
from medssl.io.dicom import decoders


def test_this_machine_is_fit(capsys):
    assert doctor.examine() == 0
    text = capsys.readouterr().out
    for subject in ("Python", "PyTorch", "CPU", "DICOM JPEG2000", "DICOM RLELossless", "MLflow"):
        assert subject in text
    assert "This machine is fit." in text


def test_a_problem_has_advice_and_exit_code_1(capsys, monkeypatch):
    finding = Finding("DICOM RLE", "problem", "cannot be read", "install it")
    monkeypatch.setattr(doctor, "CHECKS", (lambda: iter([finding]),))
    assert doctor.examine() == 1
    text = capsys.readouterr().out
    assert "-> install it" in text
    assert "1 problem(s)." in text


def test_every_compression_says_what_reads_it(monkeypatch):
    found = {finding.subject: finding for finding in doctor.decoders()}
    assert found["DICOM JPEGLSLossless"].found == "read by imagecodecs or pyjpegls"
    assert {finding.verdict for finding in found.values()} == {"ok"}
    monkeypatch.setattr(decoders, "installed", lambda _: [])
    lost = {finding.subject: finding for finding in doctor.decoders()}
    assert {finding.verdict for finding in lost.values()} == {"problem"}
    assert (
        lost["DICOM JPEG2000"].advice == "install imagecodecs or pylibjpeg with pylibjpeg-openjpeg"
    )
    assert lost["DICOM JPEGExtended12Bit"].advice == "install imagecodecs"


def test_a_tracking_server_that_does_not_answer_is_found(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    (finding,) = doctor.tracking()
    assert finding.verdict == "problem"
    assert finding.found == "http://127.0.0.1:9: does not answer (MlflowException)"
    assert "--send-spool" in finding.advice


def test_little_disk_is_a_warning(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10**9}))
    assert next(doctor.storage()).verdict == "warning"


def test_sending_a_spool_counts_runs(tmp_path, capsys):
    assert doctor.send(tmp_path) == 0
    assert "0 run(s) sent" in capsys.readouterr().out


def test_sending_from_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="there is no folder"):
        doctor.send(tmp_path / "no")
