"""Tracking against a real SQLite store (made once: that takes seconds) and against dead servers."""

import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medssl.config.base import Config
from medssl.runs.manifest import Manifest
from medssl.runs.stage import open_stage
from medssl.runs.tracking import (
    TrackingConfig,
    open_tracker,
    parent_run,
    send_spools,
)

DEAD = "http://127.0.0.1:9"


class Example(Config):
    seed: int = 7
    note: str = "x" * 3000
    sources: tuple[Path, ...] = (Path("/data/DOE^JOHN"),)
    tracking: TrackingConfig


def runs_of(config):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(config.uri)
    experiment = client.get_experiment_by_name(config.experiment)
    found = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])
    named = {run.info.run_name: run for run in found}
    assert len(named) == len(found), "a run was created twice"
    return named


def history(config, run, key):
    from mlflow.tracking import MlflowClient

    points = MlflowClient(config.uri).get_metric_history(run.info.run_id, key)
    return [(point.step, point.value) for point in points]


def artifacts(run):
    root = Path(run.info.artifact_uri.removeprefix("file://"))
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def do_stage(name, folder, tracking, fail=None):
    config = Example(tracking=tracking)
    with open_stage(name, folder, config, inputs={"store": "abc"}, tracking=tracking) as run:
        if run.previous:
            return run.previous
        for step in range(1, 4):
            run.tracker.log_metrics({"loss/intra@val": 1 / step}, step)
        (folder / "curve.png").write_bytes(b"png")
        if fail:
            raise fail
        return run.finish(
            summary={"dice": 0.5, "kept": 3, "device": "cpu"}, look_at={"curve": "curve.png"}
        )


def test_a_stage_is_recorded_whole(live, tmp_path):
    do_stage("pretrain", tmp_path / "run", live)
    run = runs_of(live)["pretrain"]
    assert run.info.status == "FINISHED"
    assert run.data.params["input.store"] == "abc"
    assert run.data.params["seed"] == run.data.tags["seed"] == "7"
    assert run.data.params["note"].startswith("x" * 400)
    assert re.search(r"x\.\.\. \(3000 characters, [0-9a-f]{8}\)$", run.data.params["note"])
    assert len(run.data.params["note"]) == 500
    assert run.data.metrics["summary/dice"] == 0.5
    assert run.data.tags["device"] == "cpu"
    assert run.data.tags["medssl.stage"] == "pretrain"
    assert run.data.tags["environment.package.torch"]
    assert history(live, run, "loss/intra_val") == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert artifacts(run) == {"config.yaml", "manifest.json", "look_at/curve.png"}
    assert Manifest.read(tmp_path / "run").mlflow_run_id == run.info.run_id


def test_no_path_of_a_raw_scan_reaches_mlflow(live, tmp_path):
    do_stage("ingest", tmp_path / "run", live)
    run = runs_of(live)["ingest"]
    assert "DOE" not in str(run.to_dictionary())
    for path in (tmp_path / "artifacts").rglob("*.*"):
        assert "DOE" not in path.read_text(errors="replace")


def test_a_failure_is_failed_there_too_and_the_next_try_continues_the_same_run(live, tmp_path):
    with pytest.raises(ValueError, match="broken"):
        do_stage("pretrain", tmp_path / "run", live, fail=ValueError("broken"))
    failed = runs_of(live)["pretrain"]
    assert failed.info.status == "FAILED"
    do_stage("pretrain", tmp_path / "run", live)
    (run,) = runs_of(live).values()
    assert (run.info.run_id, run.info.status) == (failed.info.run_id, "FINISHED")
    assert [step for step, _ in history(live, run, "loss/intra_val")] == [1, 2, 3]


def test_stages_nest_under_their_pipeline(live, tmp_path):
    elsewhere = TrackingConfig(uri=DEAD)
    with parent_run("quickstart", tmp_path, "key", live) as parent:
        parent.log_metrics({"stages": 2.0})
        do_stage("ingest", tmp_path / "a", elsewhere)
        do_stage("curate", tmp_path / "b", elsewhere)
    runs = runs_of(live)
    assert set(runs) == {"quickstart", "ingest", "curate"}
    for name in ("ingest", "curate"):
        assert runs[name].data.tags["mlflow.parentRunId"] == runs["quickstart"].info.run_id
    with parent_run("quickstart", tmp_path, "key", live):
        assert do_stage("ingest", tmp_path / "a", elsewhere).skipped
    assert len(runs_of(live)) == 3


def test_a_failing_pipeline_is_failed(live, tmp_path):
    with pytest.raises(KeyError), parent_run("p", tmp_path, "key", live):
        raise KeyError("x")
    assert runs_of(live)["p"].info.status == "FAILED"


def test_a_pipeline_that_does_not_track_switches_its_stages_off(live, tmp_path):
    with parent_run("p", tmp_path, "key", TrackingConfig(enabled=False)):
        do_stage("ingest", tmp_path / "a", live)
    assert runs_of(live) == {}


def test_a_dead_server_warns_once_and_the_work_goes_on(tmp_path, caplog):
    start = time.monotonic()
    with caplog.at_level(logging.WARNING):
        for name in ("a", "b"):
            assert do_stage(name, tmp_path / name, TrackingConfig(uri=DEAD)).summary["dice"] == 0.5
    assert time.monotonic() - start < 10
    told = [record.getMessage() for record in caplog.records if "medssl" in record.name]
    assert len(told) == 1
    assert f"The MLflow store {DEAD} cannot be reached" in told[0]
    assert Manifest.read(tmp_path / "a").status == "finished"


def test_what_a_dead_server_missed_is_sent_when_the_stage_is_asked_for_again(live, tmp_path):
    dead = live.model_copy(update={"uri": DEAD})
    do_stage("pretrain", tmp_path / "run", dead)
    assert do_stage("pretrain", tmp_path / "run", live).skipped
    run = runs_of(live)["pretrain"]
    assert run.info.status == "FINISHED"
    assert history(live, run, "loss/intra_val")[-1] == (3, 1 / 3)
    assert "look_at/curve.png" in artifacts(run)
    assert not list((tmp_path / "run" / "tracking").rglob("events.jsonl"))


def test_a_whole_pipeline_that_was_missed_is_sent_with_its_nesting(live, tmp_path):
    dead = live.model_copy(update={"uri": DEAD})
    with parent_run("p", tmp_path / "work", "key", dead):
        do_stage("a", tmp_path / "work" / "a", dead)
    (tmp_path / "work").rename(tmp_path / "moved")
    assert send_spools(tmp_path / "moved", live.uri) == (2, 0)
    assert send_spools(tmp_path / "moved", live.uri) == (0, 0)
    runs = runs_of(live)
    assert runs["a"].data.tags["mlflow.parentRunId"] == runs["p"].info.run_id
    assert "look_at/curve.png" in artifacts(runs["a"])


def test_sending_to_a_server_that_is_still_dead_says_so(tmp_path):
    do_stage("a", tmp_path / "a", TrackingConfig(uri=DEAD))
    assert send_spools(tmp_path) == (0, 1)


def test_a_server_that_never_answers_does_not_hold_the_work(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.create_server(("127.0.0.1", 0)) as server:
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
        start = time.monotonic()
        do_stage("a", tmp_path / "a", TrackingConfig(uri=uri))
        assert time.monotonic() - start < 15
    assert list((tmp_path / "a" / "tracking").rglob("events.jsonl"))


def test_what_no_server_takes_is_left_out_and_the_rest_is_recorded(live, tmp_path):
    tracker = open_tracker("a", tmp_path / "a", "key", live, {})
    tracker.log_params({"a": 1, "b": 1})
    tracker.close()
    tracker = open_tracker("a", tmp_path / "a", "key", live, {})
    tracker.log_params({"a": 2, "c": "new", "c§": "odd name"})
    tracker.log_metrics({"m": float("nan"), "n": 1})
    tracker.log_file(tmp_path / "not there")
    tracker.close()
    (run,) = runs_of(live).values()
    assert run.data.params == {"a": "1", "b": "1", "c": "new", "c_": "odd name"}
    assert set(run.data.metrics) == {"m", "n"}


def test_a_run_that_somebody_deleted_is_made_anew(live, tmp_path):
    from mlflow.tracking import MlflowClient

    tracker = open_tracker("a", tmp_path / "a", "key", live, {})
    tracker.close()
    first = runs_of(live)["a"].info.run_id
    (described,) = (tmp_path / "a").rglob("remote.json")
    described.write_text(described.read_text().replace(first, "f" * 32))
    MlflowClient(live.uri).delete_run(first)
    tracker = open_tracker("a", tmp_path / "a", "key", live, {})
    tracker.log_metrics({"x": 1})
    tracker.close()
    (run,) = runs_of(live).values()
    assert run.data.metrics == {"x": 1.0}


def test_many_metrics_cost_the_work_little(live, tmp_path):
    tracker = open_tracker("a", tmp_path / "a", "key", live, {})
    start = time.perf_counter()
    for step in range(1, 2001):
        tracker.log_metrics({"loss": 1.0, "lr": 0.1}, step)
    assert time.perf_counter() - start < 2
    tracker.close()
    assert len(history(live, runs_of(live)["a"], "loss")) == 2000


KILLED = """
import os, signal, sys, time
from medssl.runs.spool import Spool
from medssl.runs.tracking import TrackingConfig, open_tracker
if sys.argv[4] == "once created":  # MLflow has it, and nobody has written down its id
    Spool.set_remote_id = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
config = TrackingConfig(uri=sys.argv[2], experiment=sys.argv[3])
tracker = open_tracker("a", sys.argv[1], "key", config, {})
for step in range(1, 51):
    tracker.log_metrics({"loss": step}, step)
if sys.argv[4] != "early":
    while tracker.run_id is None or tracker._spool.pending():
        time.sleep(0.05)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("when", ["early", "once created", "late"])
def test_nothing_is_lost_or_doubled_by_a_kill(live, tmp_path, when):
    command = [sys.executable, "-c", KILLED, tmp_path / "a", live.uri, live.experiment, when]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    killed = subprocess.run(command, env=environment, check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    tracker = open_tracker("a", tmp_path / "a", "key", live, {})
    for step in range(41, 61):  # resumed from a checkpoint at step 40
        tracker.log_metrics({"loss": step}, step)
    tracker.close()
    (run,) = runs_of(live).values()
    assert history(live, run, "loss") == [(step, float(step)) for step in range(1, 61)]
    assert run.info.status == "FINISHED"


def test_credentials_in_the_environment_are_not_written_or_told(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://anna:secret@127.0.0.1:9")
    do_stage("a", tmp_path / "a", TrackingConfig())
    assert "http://127.0.0.1:9 cannot be reached" in caplog.text
    assert "secret" not in caplog.text
    for path in (tmp_path / "a").rglob("*.*"):
        assert "secret" not in path.read_text()


TELEMETRY = """
import sys
if sys.argv[1] == "mlflow first":
    import mlflow
    assert mlflow.telemetry.get_telemetry_client() is not None  # on, as it is by default
    from medssl.runs.mlflow.connection import connect
    connect("http://127.0.0.1:9")
else:
    import medssl
    assert "mlflow" not in sys.modules
    import mlflow
assert mlflow.telemetry.utils.is_telemetry_disabled()
assert mlflow.telemetry.get_telemetry_client() is None
"""


@pytest.mark.parametrize("how", ["mlflow first", "medssl first"])
def test_telemetry_is_off(how, tmp_path):
    decides = {"MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK", "PYTEST_CURRENT_TEST", "CI"}
    environment = {k: v for k, v in os.environ.items() if k not in decides}
    environment |= {"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", TELEMETRY, how], check=True, env=environment, timeout=120)
