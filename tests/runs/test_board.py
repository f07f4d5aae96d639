import socket
import subprocess
from pathlib import Path

import pytest
import requests

from medssl.errors import InputError
from medssl.runs import board
from medssl.runs.board import find_store, serving
from medssl.runs.tracking import TrackingConfig
from tests.mlflow_servers import free_port
from tests.runs.test_tracking import do_stage


@pytest.mark.parametrize("inside", ["", "run", "run/pretrained", "library/selections/main"])
def test_the_database_beside_or_above_a_folder_is_found(tmp_path, inside):
    (tmp_path / "mlflow.db").touch()
    (tmp_path / inside).mkdir(parents=True, exist_ok=True)
    assert find_store(tmp_path / inside) == f"sqlite:///{tmp_path / 'mlflow.db'}"


def test_the_variable_counts_more(tmp_path, monkeypatch):
    (tmp_path / "mlflow.db").touch()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert find_store(tmp_path) == "http://127.0.0.1:9"


def test_a_folder_without_runs_says_so(tmp_path):
    (tmp_path / "a" / "b" / "c" / "d" / "e").mkdir(parents=True)
    with pytest.raises(InputError, match=r"there is no mlflow\.db in .* or above it"):
        find_store(tmp_path / "a" / "b" / "c" / "d" / "e")


def test_a_page_that_cannot_start_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(board.sys, "executable", "/bin/false")
    started = pytest.raises(InputError, match="MLflow's page did not start")
    with started, serving(f"sqlite:///{tmp_path / 'mlflow.db'}", free_port()):
        pass


@pytest.mark.slow
def test_the_page_shows_the_runs_of_the_folder_to_this_machine_alone(tmp_path):
    do_stage("pretrain", tmp_path / "run", TrackingConfig())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with serving(find_store(tmp_path / "run"), port) as (address, page):
            assert address != f"http://127.0.0.1:{port}"
            look_at_the_page(address, page)
    assert page.poll() is not None
    with pytest.raises(requests.ConnectionError):
        requests.get(address, timeout=5)


def look_at_the_page(address, page):
    port = address.split(":")[-1]
    environment = Path(f"/proc/{page.pid}/environ").read_bytes().split(b"\0")
    assert b"MLFLOW_DISABLE_TELEMETRY=true" in environment
    assert "<title>MLflow</title>" in requests.get(address, timeout=30).text
    asked = {"experiment_ids": ["1"]}
    found = requests.post(f"{address}/api/2.0/mlflow/runs/search", json=asked, timeout=30)
    (run,) = found.json()["runs"]
    assert run["info"]["run_name"] == "pretrain"
    wanted = {"path": "look_at/curve.png", "run_uuid": run["info"]["run_id"]}
    assert requests.get(f"{address}/get-artifact", wanted, timeout=30).content == b"png"
    listening = subprocess.run(
        ["ss", "-Htln", f"sport = :{port}"], capture_output=True, text=True, check=False
    )
    if listening.returncode == 0:
        assert f"127.0.0.1:{port}" in listening.stdout
        assert listening.stdout.count(f":{port}") == 1
