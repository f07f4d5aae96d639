"""A SQLite store, made once for all tests of tracking: that takes seconds."""

import pytest

from medssl.runs import tracker as tracker_module
from medssl.runs.tracking import TrackingConfig
from tests.mlflow_servers import blank_store


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    return blank_store(tmp_path_factory.mktemp("mlflow"))


@pytest.fixture
def live(store, tmp_path):
    """A tracking configuration with an experiment of its own, and artifacts in tmp_path."""
    from mlflow.tracking import MlflowClient

    experiment = f"{tmp_path.parent.name}-{tmp_path.name}"
    MlflowClient(store).create_experiment(experiment, (tmp_path / "artifacts").as_uri())
    return TrackingConfig(uri=store, experiment=experiment)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(tracker_module, "_LINGER_S", 0.01)
    monkeypatch.setattr(tracker_module, "_FIRST_BACKOFF_S", 0.1)
    monkeypatch.setattr(tracker_module, "_warned", set())
    monkeypatch.setattr(tracker_module, "_troubled", set())
