"""A training told to stop: its exit code, and that going on later changes not one bit."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
import yaml

from medssl.runs.folder import read_json
from medssl.training import preemption
from medssl.training.checkpoint import FOLDER, latest
from medssl.training.preemption import stop_signals
from medssl.training.recorder import read_metrics
from tests.training import configs
from tests.training.processes import ROOT
from tests.training.stores import write_store

STEPS = 160


def settings(store, out, **engine):
    return configs.voco(
        store,
        out,
        width=2,
        schedule={"steps": STEPS, "warmup_steps": 2},
        rhythm={"record_steps": 1, "validate_steps": 70, "checkpoint_steps": 1000},
        engine={"accelerator": "cpu", **engine},
    )


def command(folder, values, **environment):
    """Start ``medssl pretrain`` as a person does."""
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    return subprocess.Popen(
        [sys.executable, "-m", "medssl.cli.main", "pretrain", folder / "config.yaml"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def told_to_stop(process, run, number, *, after):
    """Send the signal once ``after`` steps are recorded; return exit code and what it said."""
    deadline = time.monotonic() + 180
    log = run / "metrics.jsonl"
    while (len(read_metrics(log)) if log.is_file() else 0) < after:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(number)
    said, _ = process.communicate(timeout=120)
    return process.returncode, said


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("store") / "store")


def ended(run):
    state = torch.load(latest(run / FOLDER).path, weights_only=True)["state_dict"]
    return state, read_metrics(run / "metrics.jsonl")


@pytest.mark.slow  # four trainings, each a process of its own
def test_signals_save_exit_with_75_and_going_on_changes_not_one_bit(store, tmp_path):
    """Three batches an epoch, two batches a step: it stops inside an epoch and an accumulation."""
    runs = {}
    for name in ("unbroken", "broken"):
        runs[name] = tmp_path / name / "run"
        values = settings(store, runs[name], accumulate=2)
        if name == "broken":
            before = 0
            for number, after in ((signal.SIGTERM, 5), (signal.SIGUSR1, 30)):
                process = command(tmp_path / name, values)
                code, said = told_to_stop(process, runs[name], number, after=after)
                assert code == 75, said
                stopped = latest(runs[name] / FOLDER).steps
                assert f"told to stop: everything up to step {stopped} is saved" in said
                assert "run the same command again" in said
                assert before < stopped < STEPS
                before = stopped
                assert read_json(runs[name] / "manifest.json")["status"] != "finished"
        process = command(tmp_path / name, values)
        said = process.communicate(timeout=300)[0]
        assert process.returncode == 0, said
    (weights, rows), (same_weights, same_rows) = (ended(runs[n]) for n in ("unbroken", "broken"))
    assert rows == same_rows
    assert all(torch.equal(value, same_weights[name]) for name, value in weights.items())


@pytest.mark.slow  # three trainings, two of them of two processes
def test_one_of_two_processes_told_to_stop_stops_both_and_one_goes_on(store, tmp_path):
    """Lightning starts the second process; what two began, one ends, from the same step."""
    run = tmp_path / "run"
    process = command(tmp_path, settings(store, run, devices=2))
    code, said = told_to_stop(process, run, signal.SIGTERM, after=3)
    assert code == 75, said
    assert said.count("told to stop") == 1
    stopped = latest(run / FOLDER).steps
    alone = command(tmp_path, settings(store, run, devices=1))
    told_to_stop(alone, run, signal.SIGTERM, after=len(read_metrics(run / "metrics.jsonl")) + 2)
    assert latest(run / FOLDER).steps > stopped
    steps = [row["step"] for row in read_metrics(run / "metrics.jsonl") if "loss" in row]
    assert steps == list(range(1, len(steps) + 1))


def test_handlers_are_given_back_and_none_is_set_beside_the_main_thread():
    before = signal.getsignal(signal.SIGTERM)
    with stop_signals() as signals:
        signal.raise_signal(signal.SIGUSR1)
        assert signals.received
    assert signal.getsignal(signal.SIGTERM) is before

    def elsewhere():
        with stop_signals() as none:
            assert not none.received

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before


def test_slurm_is_asked_to_run_the_job_again(tmp_path, monkeypatch, caplog):
    asked = tmp_path / "asked"
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" > {asked}\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    preemption._requeue()
    assert asked.read_text() == "requeue 17\n"
    scontrol.write_text("#!/bin/sh\necho no such job >&2\nexit 1\n")
    preemption._requeue()
    assert "did not requeue job 17: no such job" in caplog.text
    monkeypatch.delenv("SLURM_JOB_ID")
    preemption._requeue()
    assert "this is no Slurm job" in caplog.text
