"""A database that several processes want at once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from medssl.runs.destination import Destination
from medssl.runs.mlflow.connection import StoreError, store_errors_explained

MAKE = """
import sys
from medssl.runs.mlflow.connection import connect
print(*(each.artifact_location for each in connect(sys.argv[1]).search_experiments()))
"""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("RESOURCE_DOES_NOT_EXIST", "has no such run"),
        ("UNAUTHENTICATED", "a user name and a password"),
        ("PERMISSION_DENIED", "does not allow this user"),
        ("INTERNAL_ERROR", "cannot be reached, or failed"),
    ],
)
def test_what_failed_is_told_from_its_code_and_not_from_digits_in_a_runs_id(code, said):
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import ErrorCode

    explained = pytest.raises(StoreError, match=said)
    with explained, store_errors_explained(Destination("http://127.0.0.1:9", "x", None)):
        raise MlflowException("Run 'ab401' fails", ErrorCode.Value(code))


@pytest.mark.slow
def test_processes_that_begin_together_make_one_database_and_none_points_elsewhere(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-c", MAKE, f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    others = [
        subprocess.Popen(command, env=environment, cwd=elsewhere, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [other.communicate(timeout=300)[0].strip() for other in others]
    assert [other.returncode for other in others] == [0, 0, 0]
    assert said == [f"{(tmp_path / 'new' / 'mlartifacts').as_uri()}/0"] * 3
    assert not list(elsewhere.iterdir())
