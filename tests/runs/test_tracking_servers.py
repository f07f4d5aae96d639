"""Against real MLflow servers: PostgreSQL, an artifact proxy, passwords, kills."""

import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from medssl.runs.destination import Destination
from medssl.runs.mlflow.connection import StoreError, connect, store_errors_explained
from medssl.runs.mlflow.history import read_run
from medssl.runs.tracking import TrackingConfig, open_tracker, send_spools
from tests.mlflow_servers import Server, postgres, serving
from tests.runs.test_tracking import do_stage, history, runs_of

ROOT = Path(__file__).resolve().parents[2]
ODD = {"nan": math.nan, "up": math.inf, "down": -math.inf, "tiny": 5e-324, "huge": 1e308, "i": 7}


def odd_numbers(config, folder):
    """Record numbers and texts that servers and databases stumble over; return the run."""
    tracker = open_tracker("odd", folder, "key", config, {})
    tracker.log_metrics(ODD, 3)
    tracker.log_metrics({"dice§val": 1, "dice%val": 2, "/a//b/../c": 3, "": 4, "x" * 400: 5}, 1)
    tracker.log_params({"zero": "a\0b", "half": "\udc80", "long": "ä" * 9000, "empty": "", "/": 1})
    tracker.set_tags({"emoji": "🧠" * 9000, "lines": "a\nb"})
    for step in range(1, 6):
        tracker.log_metrics({"loss": math.nan if step == 3 else step}, step)
    tracker.close()
    assert not list(folder.rglob("events.jsonl")), "something was not taken"
    return runs_of(config)["odd"]


def check_odd_numbers(config, run):
    data = run.data
    back = read_run(Destination(config.uri, config.experiment, None), run.info.run_id)
    assert math.isnan(back.numbers.pop("nan"))
    assert math.isnan(data.metrics["nan"])
    assert data.metrics["up"] == sys.float_info.max  # what MLflow's database holds for infinity
    assert {k: back.numbers[k] for k in ODD if k != "nan"} == {k: ODD[k] for k in ODD if k != "nan"}
    named = [name for name in data.metrics if name.startswith(("dice", "a/", "_", "xxx"))]
    assert sorted(data.metrics[name] for name in named) == [1, 2, 3, 4, 5]
    assert data.params["zero"] == "a\ufffdb"
    assert data.params["empty"] == ""
    assert len(data.params["long"]) == 500
    assert data.tags["emoji"].startswith("🧠" * 4000)
    points = [(step, value) for step, value in history(config, run, "loss") if step != 3]
    assert points == [(1, 1), (2, 2), (4, 4), (5, 5)]
    assert [s for s, v in history(config, run, "loss") if math.isnan(v)] == [3]


def test_odd_numbers_and_texts_in_sqlite(live, tmp_path):
    check_odd_numbers(live, odd_numbers(live, tmp_path / "odd"))


@pytest.fixture(scope="module")
def team(tmp_path_factory):
    """A server on PostgreSQL that hands artifacts on."""
    folder = tmp_path_factory.mktemp("team")
    with postgres() as database, serving(database.uri, folder / "artifacts") as server:
        server.artifacts, server.database = folder / "artifacts", database
        yield server


@pytest.fixture
def shared(team, tmp_path):
    return TrackingConfig(uri=team.uri, experiment=tmp_path.name, system_every_s=0)


@pytest.mark.slow
def test_odd_numbers_and_texts_in_postgresql(shared, tmp_path):
    check_odd_numbers(shared, odd_numbers(shared, tmp_path / "odd"))


@pytest.mark.slow
def test_a_stage_on_postgresql_with_its_artifacts_behind_the_server(team, shared, tmp_path):
    do_stage("pretrain", tmp_path / "run", shared)
    run = runs_of(shared)["pretrain"]
    assert run.info.status == "FINISHED"
    assert run.info.artifact_uri.startswith("mlflow-artifacts:")
    below = {a.path for a in connect(team.uri).list_artifacts(run.info.run_id, "look_at")}
    assert below == {"look_at/curve.png"}
    assert any(path.name == "curve.png" for path in team.artifacts.rglob("*"))
    assert history(shared, run, "loss/intra_val") == [(1, 1.0), (2, 0.5), (3, 1 / 3)]


@pytest.mark.slow
def test_a_server_killed_in_the_middle_of_a_run_loses_no_point(team, shared, tmp_path):
    """10,000 points of 4 curves, a killed server, a crashed database, and a resumed run after it.

    The database comes back unable to write at first, as one does that another took over from.
    """
    tracker = open_tracker("train", tmp_path, "key", shared, {})
    slowest_s, steps, read_only = 0.0, 2500, "-c default_transaction_read_only=on"
    happens = {
        500: team.kill,
        900: lambda: threading.Thread(target=team.start).start(),
        1500: team.database.crash,
        1700: lambda: team.database.start(read_only),
        2200: lambda: (team.database.crash(), team.database.start()),
    }
    for step in range(1, steps + 1):
        if step in {500, 1500}:
            wait_until(lambda step=step: seen(shared) > step / 4)  # it was receiving
        if step in happens:
            happens[step]()
        start = time.perf_counter()
        tracker.log_metrics(dict.fromkeys("abc", step) | {"loss": 1 / step}, step)
        slowest_s = max(slowest_s, time.perf_counter() - start)
        time.sleep(0.01 if 1700 < step < 2200 else 0.004)
    wait_until(lambda: seen(shared) == steps, within_s=240)
    tracker.close()
    assert slowest_s < 0.5
    resumed = open_tracker("train", tmp_path, "key", shared, {})
    for step in range(steps - 99, steps + 101):  # from a checkpoint of a while ago
        resumed.log_metrics({"loss": 1 / step}, step)
    resumed.close()
    send_spools(tmp_path)
    (run,) = runs_of(shared).values()
    for name in "abc":
        assert history(shared, run, name) == [(s, float(s)) for s in range(1, steps + 1)]
    assert history(shared, run, "loss") == [(s, 1 / s) for s in range(1, steps + 101)]
    assert run.info.status == "FINISHED"


def seen(config):
    """Return the last step that the server has, or 0 where it does not answer."""
    try:
        return int(runs_of(config)["train"].data.metrics.get("a", 0))
    except Exception:  # noqa: BLE001 - whatever MLflow raises of a server that is gone
        return 0


def wait_until(true, within_s=120):
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.2)


@pytest.mark.slow
def test_a_server_with_passwords(tmp_path, monkeypatch):
    pytest.importorskip("flask_wtf", reason="mlflow[auth] is not installed")
    store, auth = (f"sqlite:///{tmp_path / name}" for name in ("mlflow.db", "auth.db"))
    settings = tmp_path / "auth.ini"
    settings.write_text(
        f"[mlflow]\ndefault_permission = NO_PERMISSIONS\ndatabase_uri = {auth}\n"
        "admin_username = anna\nadmin_password = a-long-secret-1\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    environment = {
        "MLFLOW_AUTH_CONFIG_PATH": str(settings),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "for-a-test",
    }
    options = ("--app-name", "basic-auth")
    with serving(store, tmp_path / "files", options=options, environment=environment) as server:
        config = TrackingConfig(uri=server.uri, experiment="team", system_every_s=0)
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "anna")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong-secret-2")
        do_stage("pretrain", tmp_path / "run", config)
        assert send_spools(tmp_path / "run") == (0, 1)
        to = Destination(server.uri, "team", None)
        refused = pytest.raises(StoreError, match="user name and a password")
        with refused as told, store_errors_explained(to):
            connect(to.uri).search_experiments()
        assert "MLFLOW_TRACKING_PASSWORD" in str(told.value)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "a-long-secret-1")
        assert send_spools(tmp_path / "run") == (1, 0)
        run = runs_of(config)["pretrain"]
        assert (run.info.status, len(history(config, run, "loss/intra_val"))) == ("FINISHED", 3)
        listed = connect(server.uri).list_artifacts(run.info.run_id)
        assert {a.path for a in listed} == {"config.yaml", "look_at", "manifest.json"}
    for path in (tmp_path / "run").rglob("*.*"):
        assert "secret" not in path.read_text(errors="replace")


PREDICT = """
import sys
import mlflow
model = mlflow.pyfunc.load_model("models:/balls@champion")
mask = model.predict(sys.argv[1])
assert mask.shape == (20, 22, 18), mask.shape
assert set(mask.ravel().tolist()) == {0, 1, 2}
print("predicted", model.metadata.run_id)
"""


@pytest.mark.slow
def test_a_model_registered_on_a_server_predicts_in_a_clean_process(team, tmp_path):
    from medssl.export.register import register
    from tests.finetuned import finetuned

    tracking = TrackingConfig(uri=team.uri, experiment="models")
    member = next(path.parent for path in sorted(finetuned().glob("*/model.json")))
    done = register(member, name="balls", alias="champion", tracking=tracking)
    scan = next((finetuned().parent / "balls" / "imagesTr").glob("*.nii.gz"))
    environment = os.environ | {"MLFLOW_TRACKING_URI": team.uri, "PYTHONPATH": str(ROOT)}
    said = subprocess.run(
        [sys.executable, "-c", PREDICT, str(scan)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert said.returncode == 0, said.stderr[-3000:]
    assert f"predicted {done.run_id}" in said.stdout


@pytest.mark.slow
def test_registering_at_a_dead_server_says_so(tmp_path):
    from medssl.export.register import register
    from tests.finetuned import finetuned

    member = next(path.parent for path in sorted(finetuned().glob("*/model.json")))
    dead = Server("sqlite://", tmp_path / "files").uri  # never started
    with pytest.raises(StoreError, match=rf"{dead} cannot be reached") as told:
        register(member, name="balls", tracking=TrackingConfig(uri=dead))
    assert "start the server" in str(told.value)
