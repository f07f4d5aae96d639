"""Runs under runs, in one process and in several; datasets; and nothing that points to a person."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medssl.runs.manifest import Manifest
from medssl.runs.provenance import record_provenance
from medssl.runs.tracking import (
    RunPlace,
    TrackingConfig,
    child_run,
    nested_in,
    open_tracker,
    parent_run,
    send_spools,
)
from tests import canaries
from tests.runs.test_tracking import DEAD, do_stage, history, runs_of


def begin(config, folder, name="finetune"):
    return open_tracker(name, folder, "key", config, {"medssl.stage": name})


def parents(config):
    runs = runs_of(config)
    names = {run.info.run_id: name for name, run in runs.items()}
    return {n: names.get(run.data.tags.get("mlflow.parentRunId")) for n, run in runs.items()}


def test_folds_nest_under_their_stage_and_it_under_its_pipeline(live, tmp_path):
    with parent_run("pipeline", tmp_path, "key", live):
        stage = begin(TrackingConfig(uri=DEAD), tmp_path / "finetune")
        for fold in range(2):
            with stage.child(f"fold {fold}", f"fold-{fold}", {"fold": str(fold)}) as run:
                run.log_metrics({"dice": fold / 10}, 1)
                with run.child(f"seed 7 of {fold}", "seed-7") as seed:
                    seed.log_params({"seed": 7})
        stage.close()
    assert parents(live) == {
        "pipeline": None,
        "finetune": "pipeline",
        "fold 0": "finetune",
        "fold 1": "finetune",
        "seed 7 of 0": "fold 0",
        "seed 7 of 1": "fold 1",
    }
    runs = runs_of(live)
    assert (runs["fold 1"].data.tags["fold"], runs["fold 1"].data.metrics["dice"]) == ("1", 0.1)
    assert {run.info.status for run in runs.values()} == {"FINISHED"}


def test_the_same_key_is_the_same_run_when_the_work_is_resumed(live, tmp_path):
    for tries in (1, 2):
        stage = begin(live, tmp_path)
        with stage.child("fold 0", "fold 0/seed:1") as run:
            for step in range(1, 3 * tries + 1):
                run.log_metrics({"loss": step}, step)
        stage.close()
    runs = runs_of(live)
    assert set(runs) == {"finetune", "fold 0"}
    assert runs["fold 0"].data.metrics["loss"] == 6


def test_keys_that_differ_only_in_signs_are_different_runs(live, tmp_path):
    stage = begin(live, tmp_path)
    for number, key in enumerate(("a b", "a/b", "a-b")):
        stage.child(f"run {number}", key).close()
    stage.close()
    assert len(runs_of(live)) == 4


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("x"), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_a_child_ends_as_its_block_does(live, tmp_path, error, status):
    stage = begin(live, tmp_path)
    with pytest.raises(type(error)), stage.child("fold 0", "fold-0"):
        raise error
    stage.close()
    assert runs_of(live)["fold 0"].info.status == status


def test_where_nothing_is_tracked_children_are_silent(tmp_path):
    tracker = open_tracker("a", tmp_path, "key", TrackingConfig(enabled=False), {})
    with tracker.child("fold 0", "fold-0") as run, child_run(tracker.place, "x", "x") as other:
        run.log_metrics({"loss": 1}, 1)
        other.log_dataset("balls", "ab")
        assert run.place is other.place is None
    with nested_in(tracker.place):
        do_stage("b", tmp_path / "b", TrackingConfig(uri=DEAD))
    assert not list(tmp_path.rglob("run.json"))


def test_whole_stages_nest_under_a_stage(live, tmp_path):
    sweep = begin(live, tmp_path / "sweep", "sweep")
    with nested_in(sweep.place):
        do_stage("finetune", tmp_path / "sweep" / "a", TrackingConfig(uri=DEAD))
    sweep.close()
    assert parents(live) == {"sweep": None, "finetune": "sweep"}


CHILD = """
import sys
import time
from pathlib import Path
from medssl.runs.tracking import Destination, RunPlace, child_run
spool, uri, experiment, number = sys.argv[1:]
place = RunPlace(Path(spool), Destination(uri, experiment, None))
with child_run(place, f"fold {number}", f"fold-{number}") as run:
    for step in range(1, 101):
        run.log_metrics({"loss": step}, step)
"""


def test_children_in_other_processes_share_one_parent(live, tmp_path):
    dead = live.model_copy(update={"uri": DEAD})
    stage = begin(dead, tmp_path)  # the parent does not exist yet when its children begin
    place = RunPlace(stage.place.spool, stage.place.to)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-c", CHILD, str(place.spool), live.uri, live.experiment]
    others = [subprocess.Popen([*command, str(n)], env=environment) for n in range(2)]
    assert [other.wait(timeout=120) for other in others] == [0, 0]
    stage.close()
    send_spools(tmp_path, live.uri)
    runs = runs_of(live)
    assert set(runs) == {"finetune", "fold 0", "fold 1"}
    assert set(parents(live).values()) == {None, "finetune"}
    assert all(runs[f"fold {n}"].data.metrics["loss"] == 100 for n in range(2))


def test_the_machine_is_sampled_while_a_stage_runs_and_again_when_it_is_resumed(live, tmp_path):
    sampled = live.model_copy(update={"system_every_s": 0.05})
    for _ in range(2):
        tracker = begin(sampled, tmp_path)
        time.sleep(0.5)
        with tracker.child("fold 0", "fold-0"):
            pass
        tracker.close()
    runs = runs_of(live)
    name = "system/system_memory_usage_percentage"
    steps = [step for step, value in history(live, runs["finetune"], name) if 0 < value <= 100]
    assert len(steps) >= 6
    assert steps == list(range(1, len(steps) + 1))
    assert not [key for key in runs["fold 0"].data.metrics if key.startswith("system/")]


def test_a_dataset_has_a_name_and_a_digest_and_no_place(live, tmp_path):
    import mlflow.data

    digest = "0123456789abcdef" * 4
    for _ in range(2):  # again when the work is resumed
        tracker = begin(live, tmp_path)
        tracker.log_dataset("Balls", digest, "training")
        tracker.close()
    (run,) = runs_of(live).values()
    (logged,) = run.inputs.dataset_inputs
    assert (logged.dataset.name, logged.dataset.digest) == ("Balls", digest[:36])
    assert [(tag.key, tag.value) for tag in logged.tags] == [("mlflow.data.context", "training")]
    source = mlflow.data.get_source(logged.dataset)
    assert source.to_dict() == {"tags": {"name": "Balls", "sha256": digest}}


def manifest(**changes):
    facts = {
        "stage": "finetune",
        "status": "running",
        "config": {
            "method": {"name": "voco", "views": {}},
            "encoder": {"name": "unet"},
            "out": "/data/Quillfeather^Ida/run",
            "task": None,
        },
        "config_digest": "c" * 64,
        "inputs": {"dataset": "d" * 64, "encoder": "e" * 64, "start": "f" * 64},
        "versions": {"git_commit": "1" * 40 + "-dirty"},
    }
    return Manifest(**facts | changes)


def test_what_a_run_is_looked_for_by_is_in_its_tags(live, tmp_path):
    tracker = begin(live, tmp_path)
    record_provenance(tracker, manifest())
    tracker.close()
    (run,) = runs_of(live).values()
    expected = {
        "method": "voco",
        "encoder": "unet",
        "dataset.dataset": "d" * 64,
        "parent.encoder": "e" * 64,
        "parent.checkpoint": "f" * 64,
        "mlflow.source.git.commit": "1" * 40,
        "mlflow.source.name": "medssl finetune",
    }
    assert expected.items() <= run.data.tags.items()
    assert "task" not in run.data.tags
    (logged,) = run.inputs.dataset_inputs
    assert (logged.dataset.name, logged.dataset.digest) == ("dataset", "d" * 36)


def test_nothing_of_what_a_run_is_made_of_shows_a_path_or_a_person(live, tmp_path):
    """Every planted identifier stands in a value that provenance sees, and none in what it says."""
    tracker = begin(live, tmp_path)
    for planted in sorted(canaries.everything()):
        told = manifest(
            config={
                "dataset": f"/scans/{planted}/dataset.json",
                "encoder_from": f"/runs/{planted}",
                "method": {"name": "voco", "note": planted},
            }
        )
        record_provenance(tracker, told)
    tracker.close()
    (run,) = runs_of(live).values()
    seen = str(run.to_dictionary()) + str([d.to_dictionary() for d in run.inputs.dataset_inputs])
    assert "voco" in seen
    assert not [planted for planted in canaries.everything() if planted in seen]
