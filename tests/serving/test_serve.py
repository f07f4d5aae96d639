"""The service as its callers meet it: a process of its own, over loopback."""

import gzip
import io
import json
import multiprocessing
import os
import signal
import socket
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import nibabel
import numpy as np
import pytest
import requests
import torch

from medssl.cli.main import main
from medssl.errors import InputError
from medssl.inference.predictor import Predictor
from medssl.io.nifti import read_nifti
from medssl.serving.serve import serve
from medssl.serving.serve_config import ServeConfig
from medssl.serving.token import knows, read_token
from tests.finetuned import affine, finetuned, phantom

TOKEN = "correct-horse-battery-staple"  # noqa: S105
MIB = 1.0
PROCESSES = multiprocessing.get_context("forkserver")


def scan_bytes(seed=0, **changes):
    image = nibabel.Nifti1Image(phantom(seed, **changes)[0], affine())
    return gzip.compress(image.to_bytes())


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Service:
    def __init__(self, process, port, log):
        self.process, self.port, self._log = process, port, log
        self.url = f"http://127.0.0.1:{port}"
        self.caller = requests.Session()
        self.caller.headers["Authorization"] = f"Bearer {TOKEN}"

    @property
    def log(self):
        return self._log.read_text()

    def predict(self, body, to=None, **more):
        params = {"to": to} if to else {}
        return self.caller.post(
            f"{self.url}/predict", data=body, params=params, timeout=120, **more
        )

    def health(self):
        return requests.get(f"{self.url}/health", timeout=30)

    def wait(self):
        until = time.monotonic() + 180
        while True:
            assert self.process.is_alive(), self.log
            assert time.monotonic() < until, self.log
            try:
                if self.health().json()["ready"]:
                    return self
            except requests.ConnectionError:
                time.sleep(0.3)


@contextmanager
def serving(folder, *words):
    token, log, port = folder / "token", folder / "log.txt", free_port()
    token.write_text(TOKEN)
    token.chmod(0o600)
    rooms = folder / "rooms"
    rooms.mkdir()
    command = ["medssl", "serve", str(finetuned() / "pretrained")]
    command += ["--port", str(port), "--token-file", str(token), *words]
    # Of one process that has imported everything, every service is a copy: a start of seconds.
    PROCESSES.set_forkserver_preload([__name__, "medssl.serving.app", "uvicorn"])
    process = PROCESSES.Process(target=call, args=(command, log, rooms))
    process.start()
    try:
        yield Service(process, port, log).wait()
    finally:
        process.kill()
        process.join()


def call(command, log, rooms):
    """Run a command as a shell would, in a process that is new."""
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ["TMPDIR"] = str(rooms)
    torch.set_num_threads(1)
    sys.argv = command
    main()


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("service")
    words = (f"limits.most_body_mib={MIB}", "limits.waiting=5", "describe=true")
    with serving(folder, *words) as running:
        yield running
    assert "Traceback" not in running.log


def refused(answer, status, code, problem):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    said = answer.json()
    assert said["code"] == code
    assert problem in said["problem"]
    assert said["hint"]
    return said


def expected(seed):
    path = finetuned().parent / "balls" / "imagesTr" / f"ball_{seed}.nii.gz"
    return Predictor.load(finetuned() / "pretrained").predict(read_nifti(path, "MR"))


def mask_of(answer):
    assert answer.status_code == 200, answer.text
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(answer.content))


def test_a_scan_is_answered_with_the_mask_that_predict_makes(service):
    answer = service.predict(scan_bytes(0))
    mask = mask_of(answer)
    assert np.array_equal(np.asarray(mask.dataobj), expected(0))
    assert np.allclose(mask.affine, affine())
    assert answer.headers["content-type"] == "application/gzip"
    assert answer.headers["cache-control"] == "no-store"
    digest = service.health().json()["weights_digest"]
    assert answer.headers["medssl-model"] == digest
    assert isinstance(json.loads(answer.headers["medssl-warnings"]), list)


def test_forms_and_json_and_zips_are_understood(service):
    form = service.predict(None, files={"scan": ("DOE_JANE.nii.gz", scan_bytes(1))})
    assert np.array_equal(np.asarray(mask_of(form).dataobj), expected(1))
    assert "DOE" not in str(form.headers) + service.log
    facts = service.predict(scan_bytes(1), to="json").json()
    voxels = np.bincount(expected(1).ravel(), minlength=3)
    assert facts["volumes_ml"]["kernel"] == pytest.approx(voxels[2] / 1000, abs=1e-3)
    assert "Not for diagnosis" in facts["notice"]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a/scan.nii.gz", scan_bytes(1))
    assert np.array_equal(
        np.asarray(mask_of(service.predict(packed.getvalue())).dataobj), expected(1)
    )


def test_a_zip_of_dicom_is_answered_on_the_grid_of_its_series(service, shipped):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted((shipped / "dicom" / "mr_prostate_adc").rglob("*")):
            if path.is_file():
                archive.write(path, path.name)
    assert len(packed.getvalue()) < MIB * 2**20
    assert mask_of(service.predict(packed.getvalue())).ndim == 3


def test_many_at_once_get_their_own_answers(service):
    with ThreadPoolExecutor(4) as callers:
        answers = list(callers.map(lambda seed: service.predict(scan_bytes(seed)), range(4)))
    for seed, answer in enumerate(answers):
        assert np.array_equal(np.asarray(mask_of(answer).dataobj), expected(seed))


def test_health_says_what_runs_without_a_token(service):
    said = service.health().json()
    assert said["ready"] is True
    assert said["places"] == 6
    assert len(said["weights_digest"]) == 64
    assert requests.get(f"{service.url}/health/live", timeout=30).json() == {"alive": True}


def test_callers_without_the_token_are_refused(service):
    for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
        answer = requests.post(f"{service.url}/predict", data=b"x", headers=header, timeout=30)
        refused(answer, 401, "unauthorized", "token is missing")
        assert answer.headers["www-authenticate"] == "Bearer"


def test_a_body_that_is_announced_too_large_is_refused_before_it_is_sent(service):
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as link:
        head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        link.sendall(f"{head}Content-Length: {10**12}\r\n\r\n".encode())
        assert link.recv(4096).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("form", [False, True])
def test_a_body_that_turns_out_too_large_is_not_read_to_its_end(service, form):
    kind = "multipart/form-data; boundary=b" if form else "application/octet-stream"
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    head += f"Content-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
    part = b'--b\r\nContent-Disposition: form-data; name="s"; filename="s"\r\n\r\n'
    sent, chunk = 0, bytes(2**16)
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as link:
        link.sendall(head.encode())
        if form:
            link.sendall(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        link.settimeout(0.05)
        answer = b""
        while not answer and sent < 400 * 2**20:
            link.settimeout(60)
            try:
                link.sendall(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
                sent += len(chunk)
                link.settimeout(0.02)
                answer = link.recv(4096)
            except TimeoutError:
                continue
            except OSError:
                break
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert sent < 50 * 2**20


def hostile(**members):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_up_", "../"), content)
    return packed.getvalue()


def test_hostile_archives_are_refused(service):
    climbs = hostile(_up_evil=b"x", scan=b"x")
    refused(service.predict(climbs), 422, "unsafe_member", "")
    bomb = hostile(scan=bytes(2**28))
    refused(service.predict(bomb), 422, "decompression_bomb", "")


def test_what_is_no_scan_is_refused_with_a_reason(service):
    refused(service.predict(b""), 400, "empty", "no body")
    refused(service.predict(scan_bytes(0)[:300]), 422, "truncated_file", "")
    refused(service.predict(b"hello" * 100), 422, "not_dicom", "")
    two = hostile(**{"a.nii.gz": scan_bytes(0), "b.nii.gz": scan_bytes(1)})
    refused(service.predict(two), 422, "several_scans", "more than one")
    refused(service.predict(scan_bytes(0), to="../../etc"), 400, "unknown_form", "no such form")
    refused(requests.get(f"{service.url}/etc/passwd", timeout=30), 404, "no_such_thing", "nothing")
    form = {"files": [("a", ("a", b"1")), ("b", ("b", b"2"))]}
    refused(service.predict(None, **form), 400, "no_form", "not one file")


def test_a_foreign_name_of_the_service_is_refused(service):
    answer = requests.get(f"{service.url}/health", headers={"Host": "evil.example"}, timeout=30)
    assert answer.status_code == 400


def test_what_it_can_is_described_where_that_is_wanted(service):
    said = requests.get(f"{service.url}/openapi.json", timeout=30).json()
    assert set(said["paths"]) == {"/predict", "/health", "/health/live"}
    assert "multipart/form-data" in said["paths"]["/predict"]["post"]["requestBody"]["content"]


def test_the_log_names_requests_and_nothing_else(service):
    requests.get(f"{service.url}/DOE_JANE?q=DOE_JANE", timeout=30)
    assert "GET (another path) 404" in service.log
    assert "POST /predict 200" in service.log
    assert "DOE" not in service.log
    assert TOKEN not in service.log


def test_a_full_service_says_when_to_come_back_and_a_stop_finishes_what_is_under_way(tmp_path):
    with serving(tmp_path, "limits.waiting=0") as service:
        head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        body = scan_bytes(0)
        with socket.create_connection(("127.0.0.1", service.port), timeout=60) as link:
            link.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:100])
            until = time.monotonic() + 30
            while service.health().json()["under_way"] == 0:
                assert time.monotonic() < until
            answer = service.predict(body)
            refused(answer, 503, "full", "as much to do")
            assert int(answer.headers["retry-after"]) > 0
            os.kill(service.process.pid, signal.SIGTERM)
            time.sleep(0.5)
            link.sendall(body[100:])
            assert link.recv(4096).startswith(b"HTTP/1.1 200 ")
        service.process.join(timeout=60)
        assert service.process.exitcode == 0
        assert list((tmp_path / "rooms").glob("medssl-*")) == []


def test_slow_bodies_and_slow_predictions_are_given_up(tmp_path):
    with serving(tmp_path, "limits.time_s=0.001", "limits.upload_s=0.5") as service:
        refused(service.predict(scan_bytes(0)), 504, "too_slow", "longer than 0.001 seconds")
        head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        with socket.create_connection(("127.0.0.1", service.port), timeout=60) as link:
            link.sendall(f"{head}Content-Length: 1000\r\n\r\nabc".encode())
            assert link.recv(4096).startswith(b"HTTP/1.1 408 ")
        until = time.monotonic() + 30
        while service.health().json()["under_way"]:
            assert time.monotonic() < until


def test_a_service_for_others_needs_a_token(tmp_path, monkeypatch):
    open_to_all = ServeConfig(model="m", host="0.0.0.0")  # noqa: S104
    with pytest.raises(InputError, match="needs a token"):
        serve(open_to_all)
    assert read_token(ServeConfig(model="m")) == ""
    monkeypatch.setenv("MEDSSL_SERVE_TOKEN", "short")
    with pytest.raises(InputError, match="could be guessed"):
        read_token(open_to_all)
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o644)
    with pytest.raises(InputError, match="others than its owner"):
        read_token(ServeConfig(model="m", token_file=file))
    file.chmod(0o600)
    assert read_token(ServeConfig(model="m", token_file=file)) == TOKEN
    with pytest.raises(InputError, match="cannot be read"):
        read_token(ServeConfig(model="m", token_file=tmp_path / "gone"))


def test_only_the_whole_token_opens():
    assert knows(TOKEN, f"Bearer {TOKEN}")
    assert knows("", None)
    for sent in (None, "", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN[:-1]}", "Bearer "):
        assert not knows(TOKEN, sent)


def test_a_taken_port_and_a_missing_model_are_explained(tmp_path):
    with pytest.raises(InputError, match="there is no task model"):
        serve(ServeConfig(model=str(tmp_path)))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"cannot listen at 127.0.0.1, port {port}"):
            serve(ServeConfig(model=str(finetuned() / "pretrained"), port=port))
