"""Rows on a Dask scheduler, and on jobs of a Slurm that runs on this machine."""

import os
import signal
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from medssl.errors import ConfigError, MedSSLError
from medssl.runs.cluster import ClusterConfig, SlurmConfig, read_cluster, slurm_cluster
from medssl.runs.workers import map_unordered
from tests.clusters import dask_cluster, descendants, fake_slurm, wait_for

pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with dask_cluster(tmp_path_factory.mktemp("dask"), workers=2) as running:
        yield running


def double_or_die(row):
    if row == 7:
        os._exit(1)
    return 2 * row


def note_and_wait(folder, row):
    Path(folder, str(row)).touch()
    time.sleep(0.05)
    return row


def crashed(row):
    return ("crashed", row)


def fail(secret):
    raise LookupError("a bug")


def test_every_row_once_and_only_the_culprit_is_blamed(cluster):
    found = list(map_unordered(double_or_die, range(200), workers=cluster.address, crashed=crashed))
    assert found.count(("crashed", 7)) == 1
    numbers = [row for row in found if row != ("crashed", 7)]
    assert sorted(numbers) == [2 * row for row in range(200) if row != 7]


def test_without_a_result_for_it_a_killed_worker_is_explained(cluster):
    with pytest.raises(MedSSLError, match="workers of the cluster were killed"):
        list(map_unordered(double_or_die, [7], workers=cluster.address))


def test_results_come_as_they_are_ready_and_the_rest_is_not_begun(cluster, tmp_path):
    results = map_unordered(partial(note_and_wait, tmp_path), range(500), workers=cluster.address)
    next(results)
    results.close()  # as Ctrl-C does
    time.sleep(0.3)
    begun = len(list(tmp_path.iterdir()))
    assert begun <= 80
    time.sleep(0.3)
    assert len(list(tmp_path.iterdir())) == begun


def test_what_a_row_raises_reaches_the_caller_and_the_row_reaches_no_log(cluster):
    with pytest.raises(LookupError, match="a bug"):
        list(map_unordered(fail, ["/archive/Doe^Jane"], workers=cluster.address))
    wait_for(lambda: "a bug" in cluster.log())
    assert "Doe" not in cluster.log()


def test_a_folder_the_workers_do_not_see(cluster, tmp_path):
    with pytest.raises(MedSSLError, match="does not see the sources or the library"):
        list(map_unordered(abs, [1], workers=cluster.address, shared=[tmp_path / "none"]))


def test_nobody_listens_nobody_works(tmp_path):
    path = tmp_path / "cluster.yaml"
    path.write_text("scheduler: {address: 'tcp://127.0.0.1:9', wait_s: 0.5}")
    with pytest.raises(MedSSLError, match=r"no Dask scheduler answers at tcp://127.0.0.1:9"):
        list(map_unordered(abs, [1], workers=str(path)))
    with dask_cluster(tmp_path / "logs", workers=0) as lonely:
        address = f"tcp://127.0.0.1:{lonely.port}"
        path.write_text(f"scheduler: {{address: '{address}', wait_s: 4}}")
        with pytest.raises(MedSSLError, match=f"has no workers\n  hint: .*dask worker {address}"):
            list(map_unordered(abs, [1], workers=str(path)))


def test_a_scheduler_that_is_lost_ends_the_run_in_words(tmp_path):
    with dask_cluster(tmp_path / "dask", workers=1) as dying:
        (tmp_path / "rows").mkdir()
        rows = map_unordered(
            partial(note_and_wait, tmp_path / "rows"), range(300), workers=dying.address
        )
        next(rows)
        dying.scheduler.send_signal(signal.SIGKILL)
        with pytest.raises(MedSSLError, match=r"scheduler was lost\n  hint: .* finished is kept"):
            list(rows)


def test_a_file_describes_slurm_jobs(tmp_path):
    config = SlurmConfig(
        processes=2,
        memory="8GB",
        walltime="01:30:00",
        queue="cpu",
        account="imaging",
        directives=("--constraint=ssd",),
        setup=("module load python",),
        folder=tmp_path,
        interface="lo",
    )
    with slurm_cluster(config) as cluster:
        script = cluster.job_script()
        sockets = psutil.Process().net_connections(kind="tcp")
        listening = {each.laddr.ip for each in sockets if each.status == psutil.CONN_LISTEN}
        keys = {path.name: path.stat().st_mode & 0o077 for path in tmp_path.rglob("*.pem")}
    for line in ("-J medssl", "-p cpu", "-A imaging", "--cpus-per-task=2", "--mem=8G"):
        assert f"#SBATCH {line}" in script
    assert "#SBATCH -t 01:30:00" in script
    assert "#SBATCH --constraint=ssd" in script
    assert script.index("module load python") < script.index("distributed.cli.dask_worker tls://")
    assert "--nthreads 1" in script
    assert "--nworkers 2" in script
    assert "--no-dashboard" in script
    assert listening == {"127.0.0.1"}
    assert keys == {"ca_file.pem": 0, "cert.pem": 0, "key.pem": 0}
    assert not list(tmp_path.iterdir())


def test_slurm_jobs_from_submission_to_cancellation(tmp_path, monkeypatch):
    jobs = fake_slurm(tmp_path / "slurm", monkeypatch)
    path = tmp_path / "cluster.yaml"
    path.write_text(
        f"slurm: {{jobs: 2, processes: 1, memory: 1GB, interface: lo, folder: {tmp_path / 'own'}}}"
    )
    found = list(map_unordered(double_or_die, range(6), workers=str(path), crashed=crashed))
    assert sorted(found) == [0, 2, 4, 6, 8, 10]
    assert 1 <= len(list(jobs.glob("*.sh"))) <= 3
    wait_for((jobs / "cancelled").exists)
    running = [int(file.read_text()) for file in jobs.glob("*.pid")]
    wait_for(lambda: not any(descendants(pid) for pid in running))


def test_a_job_that_slurm_refuses_is_not_waited_for(tmp_path, monkeypatch):
    path = tmp_path / "cluster.yaml"
    path.write_text(f"slurm: {{interface: lo, folder: {tmp_path / 'own'}}}")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MedSSLError, match="no sbatch on this machine"):
        list(map_unordered(double_or_die, range(6), workers=str(path), crashed=crashed))
    (tmp_path / "sbatch").write_text("#!/bin/sh\necho 'invalid account' >&2\nexit 1\n")
    (tmp_path / "sbatch").chmod(0o755)
    with pytest.raises(MedSSLError, match="Slurm refuses the job: invalid account"):
        list(map_unordered(double_or_die, range(6), workers=str(path), crashed=crashed))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dask://host", "should be a number, inline, dask://host:port or a .yaml file"),
        ("tcp://host:1", "should be a number"),
        ("ten", "should be a number"),
        ("missing.yaml", "there is no such file"),
    ],
)
def test_workers_that_mean_nothing(text, message):
    with pytest.raises(ConfigError, match=message):
        read_cluster(text)


def test_a_file_with_a_mistake_says_where(tmp_path):
    path = tmp_path / "cluster.yaml"
    path.write_text("slurm: {job: 3}")
    with pytest.raises(ConfigError, match=r"slurm.job: unknown key. Did you mean 'jobs'\?"):
        read_cluster(str(path))
    path.write_text("{}")
    with pytest.raises(ConfigError, match="one section, scheduler or slurm"):
        read_cluster(str(path))
    path.write_text("scheduler: {address: 'tls://host:1'}")
    with pytest.raises(ConfigError, match="needs the section tls"):
        read_cluster(str(path))


def test_certificates_of_a_scheduler_that_are_not_there_are_named(tmp_path):
    path = tmp_path / "cluster.yaml"
    files = "{ca_file: /nowhere/ca, certificate: /nowhere/cert, key: /nowhere/key}"
    path.write_text(f"scheduler: {{address: 'tls://127.0.0.1:1', tls: {files}}}")
    with pytest.raises(MedSSLError, match="there is no file /nowhere/ca"):
        list(map_unordered(double_or_die, range(6), workers=str(path), crashed=crashed))


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setattr("medssl.runs.cluster.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"hint: pip install 'medssl\[cluster\]'"):
        read_cluster("dask://host:1")


def test_an_address_is_a_cluster():
    assert read_cluster("dask://host:8786") == ClusterConfig.model_validate(
        {"scheduler": {"address": "tcp://host:8786"}}
    )
