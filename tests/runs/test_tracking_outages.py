"""Servers that fail, sleep and come back: the work is not delayed, and nothing is lost."""

import time
from pathlib import Path

import pytest

from medssl.runs import tracker as tracker_module
from medssl.runs import tracking
from medssl.runs.tracking import (
    TrackingConfig,
    open_tracker,
    parent_run,
    send_leftovers,
    send_spools,
)
from tests.mlflow_servers import moody


@pytest.fixture(autouse=True)
def _fresh_clients(monkeypatch):
    monkeypatch.setattr("medssl.runs.mlflow.connection._CLIENTS", {})


@pytest.fixture
def server():
    with moody() as started:
        yield started


def wait_until(true, within_s=20):
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def begin(server, folder):
    config = TrackingConfig(uri=server.uri, system_every_s=0)
    return open_tracker("a", folder, "key", config, {})


def losses(server):
    return [(e[2], e[3]) for e in server.accepted if e[:2] == ("metric", "loss")]


@pytest.mark.parametrize("status", [400, 500, 503, 507])
def test_what_is_recorded_while_a_server_fails_arrives_in_order_when_it_works(
    server, tmp_path, status
):
    server.fails = status
    tracker = begin(server, tmp_path)
    start = time.monotonic()
    for step in range(1, 101):
        tracker.log_metrics({"loss": 1 / step}, step)
        if step == 50:
            tracker.log_params({"half": "way"})
            tracker.log_file(Path(__file__))
    assert time.monotonic() - start < 1
    wait_until(lambda: server.asked > 1)
    assert server.accepted == []
    server.fails = 0
    wait_until(lambda: len(losses(server)) == 100)
    tracker.close()
    assert losses(server) == [(step, 1 / step) for step in range(1, 101)]
    assert ("params", "half", "way") in server.accepted
    assert ("file", "test_tracking_outages.py") in server.accepted
    assert server.accepted[-1] == ("status", "FINISHED")
    assert not (tmp_path / "tracking" / "key" / "events.jsonl").exists()


def test_a_full_artifact_store_holds_nothing_up_and_loses_nothing(server, tmp_path):
    server.fails, server.fails_only = 507, "mlflow-artifacts"
    tracker = begin(server, tmp_path)
    (tmp_path / "curves.png").write_bytes(b"png")
    tracker.log_metrics({"loss": 3}, 1)
    tracker.log_file(tmp_path / "curves.png")
    tracker.log_metrics({"loss": 2}, 2)
    start = time.monotonic()
    tracker.close()
    assert time.monotonic() - start < 4
    server.fails = 0
    assert send_spools(tmp_path) == (1, 0)
    assert set(losses(server)) == {(1, 3), (2, 2)}
    assert ("file", "curves.png") in server.accepted
    assert server.accepted[-1] == ("status", "FINISHED")


def test_a_file_that_is_too_large_for_a_server_is_left_out(server, tmp_path, caplog):
    server.fails, server.fails_only = 413, "mlflow-artifacts"
    tracker = begin(server, tmp_path)
    (tmp_path / "huge.bin").write_bytes(b"x")
    tracker.log_file(tmp_path / "huge.bin")
    tracker.log_metrics({"loss": 2}, 2)
    tracker.close()
    assert losses(server) == [(2, 2)]
    assert "does not take a file as large as huge.bin" in caplog.text


def test_a_slow_server_slows_nothing_but_itself(server, tmp_path):
    server.sleeps_s = 0.3
    tracker = begin(server, tmp_path)
    start = time.monotonic()
    for step in range(1, 1001):
        tracker.log_metrics({"loss": step}, step)
    assert time.monotonic() - start < 1
    tracker.close()
    assert losses(server) == [(step, step) for step in range(1, 1001)]


def test_the_end_of_a_run_waits_for_a_slow_server_only_so_long(server, tmp_path, monkeypatch):
    monkeypatch.setattr(tracker_module, "_CLOSE_WAIT_S", 0.5)
    server.sleeps_s = 2
    tracker = begin(server, tmp_path)
    tracker.log_metrics({"loss": 1}, 1)
    start = time.monotonic()
    tracker.close()
    assert time.monotonic() - start < 1.5
    server.sleeps_s = 0
    time.sleep(2)  # what was under way ends
    send_spools(tmp_path)
    assert losses(server)[-1] == (1, 1)
    assert ("status", "FINISHED") in server.accepted


def test_after_an_hour_of_failures_no_stage_waits_any_more(server, tmp_path, monkeypatch):
    server.fails = 500
    monkeypatch.setattr(tracker_module, "_troubled", {f"The MLflow store {server.uri}"})
    server.sleeps_s = 5  # and it takes its time to say so
    start = time.monotonic()
    for number in range(2):
        begin(server, tmp_path / str(number)).close()
    assert time.monotonic() - start < 2 * (tracker_module._CLOSE_WAIT_FAILING_S + 0.5)


def test_a_pipeline_sends_at_its_end_what_its_stages_could_not(server, tmp_path):
    config = TrackingConfig(uri=server.uri, system_every_s=0)
    with parent_run("p", tmp_path, "key", config):
        server.fails = 500
        stage = open_tracker("a", tmp_path / "a", "key", config, {})
        stage.log_metrics({"loss": 1}, 1)
        with stage.child("fold 0", "fold-0") as fold:
            fold.log_metrics({"fold_loss": 2}, 1)
        stage.close()
        assert losses(server) == []
        server.fails = 0
    assert losses(server) == [(1, 1)]
    assert ("metric", "fold_loss", 1, 2) in server.accepted
    assert send_spools(tmp_path) == (0, 0)


def test_a_pipeline_whose_server_is_still_away_does_not_wait_for_it(server, tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "_send_in_background", lambda *_: pytest.fail("it tried"))
    server.fails = 500
    config = TrackingConfig(uri=server.uri, system_every_s=0)
    with parent_run("p", tmp_path, "key", config):
        open_tracker("a", tmp_path / "a", "key", config, {}).close()


def test_a_server_that_wants_a_password_loses_nothing_either(server, tmp_path):
    server.fails = 401
    tracker = begin(server, tmp_path)
    tracker.log_metrics({"loss": 1}, 1)
    tracker.close()
    server.fails = 0
    assert send_spools(tmp_path) == (1, 0)
    assert losses(server) == [(1, 1)]


def test_a_database_that_hates_one_value_gets_all_others(server, tmp_path):
    server.poison = "cursed"
    tracker = begin(server, tmp_path)
    for step in range(1, 21):
        tracker.log_metrics({"loss": step, "cursed" if step == 7 else "fine": step}, step)
    tracker.close()
    assert losses(server) == [(step, step) for step in range(1, 21)]
    assert sum(event[:2] == ("metric", "fine") for event in server.accepted) == 19
    assert not list(tmp_path.rglob("events.jsonl"))


def test_a_database_that_can_be_read_but_not_written_loses_nothing(server, tmp_path):
    """MLflow answers 400 then, as to a bad value; a failed-over PostgreSQL is such a one."""
    tracker = begin(server, tmp_path)
    wait_until(lambda: ("status", "RUNNING") in server.accepted)
    server.fails, server.fails_only = 400, "runs/"
    for step in range(1, 11):
        tracker.log_metrics({"loss": step}, step)
    asked = server.asked
    wait_until(lambda: server.asked > asked + 5)
    server.fails = 0
    tracker.close()
    assert losses(server) == [(step, step) for step in range(1, 11)]


def test_a_stage_that_is_done_does_not_wait_for_a_server_that_failed_before(server, tmp_path):
    server.fails = 500
    begin(server, tmp_path / "a").close()
    server.sleeps_s = 8  # and now it does not even say no
    config, start = TrackingConfig(uri=server.uri), time.monotonic()
    send_leftovers(tmp_path / "a", config)
    assert time.monotonic() - start < tracker_module._CLOSE_WAIT_FAILING_S + 1
