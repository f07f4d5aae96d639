import getpass
import platform
import socket

from medssl.runs.environment import describe, rank


def test_versions_commit_and_hardware_are_described():
    found = describe()
    assert found["python"] == platform.python_version()
    assert found["package.numpy"][0].isdigit()
    assert int(found["cpus"]) >= 1
    assert set(found) >= {"platform", "gpu", "git_commit", "package.torch", "package.mlflow"}


def test_neither_the_person_nor_the_machine_is_named():
    text = " ".join(describe().values())
    assert socket.gethostname() not in text
    assert getpass.getuser() not in text.split()


def test_rank_comes_from_the_launcher(monkeypatch):
    assert rank() == 0
    monkeypatch.setenv("SLURM_PROCID", "2")
    assert rank() == 2
    monkeypatch.setenv("RANK", "1")
    assert rank() == 1
