import pytest
from pydantic import ValidationError

from medssl.runs.destination import TrackingConfig, artifacts_of, destination


def test_the_store_is_the_config_then_the_environment_then_beside_the_run(tmp_path, monkeypatch):
    beside = destination(TrackingConfig(), tmp_path / "run")
    assert beside.uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert beside.artifact_root == f"file://{tmp_path}/mlartifacts"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://anna:secret@host:5000")
    assert destination(TrackingConfig(), tmp_path).uri == "http://anna:secret@host:5000"
    assert destination(TrackingConfig(), tmp_path).shown == "http://host:5000"
    assert destination(TrackingConfig(uri="x"), tmp_path).uri == "x"


def test_credentials_in_a_config_are_refused():
    with pytest.raises(ValidationError, match="should not hold a user name or password"):
        TrackingConfig(uri="postgresql://anna:secret@db/mlflow")


def test_a_stage_inside_another_s_folder_is_recorded_where_that_one_is(tmp_path):
    library = tmp_path / "library"
    library.mkdir()
    (library / "manifest.json").write_text("{}")
    of_library = destination(TrackingConfig(), library)
    assert destination(TrackingConfig(), library / "selections" / "main") == of_library
    assert of_library.uri == f"sqlite:///{tmp_path / 'mlflow.db'}"


def test_files_of_a_database_named_by_hand_lie_beside_it(tmp_path):
    to = destination(TrackingConfig(uri=f"sqlite:///{tmp_path / 'other.db'}"), tmp_path / "run")
    assert to.artifact_root == (tmp_path / "mlartifacts").as_uri()


def test_files_of_a_store_in_sqlite_lie_beside_it_however_it_is_named(tmp_path):
    store = f"sqlite:///{tmp_path / 'other.db'}"
    assert artifacts_of(store) == (tmp_path / "mlartifacts").as_uri()
    assert artifacts_of("http://server:5000") is None
