"""A database that several processes want at once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

MAKE = """
import sys
from medssl.runs.mlflow.connection import connect
print(len(connect(sys.argv[1]).search_experiments()))
"""


@pytest.mark.slow
def test_processes_that_begin_together_make_one_database(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-c", MAKE, f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}"]
    others = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [other.communicate(timeout=300)[0].strip() for other in others]
    assert [other.returncode for other in others] == [0, 0, 0]
    assert said == ["1", "1", "1"]
