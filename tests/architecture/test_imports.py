"""Importing does nothing but define: no heavy packages, no network, no threads, no files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = "torch lightning monai mlflow numpy pandas scipy matplotlib pydantic pydicom nibabel yaml"


def python(code, cwd):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        cwd=cwd,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("module", ["medssl", "medssl.cli.main", "medssl.errors"])
def test_nothing_heavy_is_imported(module, tmp_path):
    found = python(
        f"import sys, {module}; print(*set('{HEAVY}'.split()) & set(sys.modules))", tmp_path
    )
    assert found.split() == []


WATCHED = """
import importlib, os, pkgutil, socket, sys, threading
def refuse(*a, **k):
    raise AssertionError(f"import reached for the network: {a[1:]}")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
import medssl
for package in "torch numpy matplotlib lightning monai scipy.stats pandas".split():
    importlib.import_module(package)  # what they do at import is not ours
environment, threads, files = dict(os.environ), threading.active_count(), os.listdir()
for module in pkgutil.walk_packages(medssl.__path__, "medssl."):
    importlib.import_module(module.name)
assert threading.active_count() == threads, threading.enumerate()
assert os.listdir() == files, os.listdir()
assert dict(os.environ) == environment, set(os.environ.items()) ^ set(environment.items())
print(sum(name.startswith("medssl") for name in sys.modules))
"""


def test_importing_every_module_only_defines(tmp_path):
    assert int(python(WATCHED, tmp_path)) > 50


def test_layers_point_one_way():
    lint = "from importlinter.cli import lint_imports; import sys; sys.exit(lint_imports())"
    python(lint, ROOT)
