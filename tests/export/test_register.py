"""Registration in a SQLite store of the tiny finetuning that other tests use."""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from medssl.errors import InputError
from medssl.export.register import register
from medssl.runs.destination import TrackingConfig, destination
from medssl.runs.folder import read_json, write_json
from medssl.runs.mlflow.connection import StoreError, connect
from medssl.runs.mlflow.lineage import lineage
from medssl.runs.tracking import open_tracker, parent_run, send_spools
from medssl.training.task_package import package_of
from tests import canaries
from tests.finetuned import finetuned
from tests.mlflow_servers import blank_store


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A finished finetuning that was not tracked, with a database beside it."""
    folder = tmp_path_factory.mktemp("work")
    shutil.copytree(finetuned(), folder / "run")
    blank_store(folder)
    return folder


@pytest.fixture(scope="module")
def registered(work):
    return register(work / "run" / "pretrained", name="balls", alias="champion")


def client_of(work):
    return connect(destination(TrackingConfig(), work / "run").uri)


def test_a_model_gets_a_version_an_alias_and_the_digest_of_its_weights(work, registered):
    assert registered.uri == "models:/balls@champion"
    version = client_of(work).get_model_version_by_alias("balls", "champion")
    about = read_json(work / "run" / "pretrained" / "model.json")
    assert str(version.version) == registered.version
    assert version.tags["medssl.digest"] == about["weights_digest"] == registered.digest
    assert version.tags["medssl.lineage.0.model"] == f"{registered.digest} {registered.run_id}"
    assert version.tags["medssl.lineage.1.dataset"] == about["training"]["dataset_digest"]
    assert version.tags["medssl.encoder"] == "segresnet"
    assert version.run_id == registered.run_id


def test_what_is_kept_is_safetensors_and_json_and_nothing_that_runs(work, registered):
    files = {path.name for path in (work / "mlartifacts").rglob("*") if path.is_file()}
    kept = {"model.safetensors", "model.json", "MLmodel", "input_example.json"}
    assert kept <= files
    assert not [name for name in files if name.endswith((".pkl", ".pickle", ".pt", ".py"))]


def test_no_path_of_this_machine_is_kept_beside_the_model(work, registered):
    said = [p for p in (work / "mlartifacts").rglob("*") if p.suffix != ".safetensors"]
    texts = [path.read_text() for path in said if path.is_file()]
    assert any("loader_module" in text for text in texts)
    here = [work, tempfile.gettempdir(), sys.prefix, Path(__file__).parents[2], Path.home()]
    places = [str(place) for place in here if len(Path(place).parts) > 1]  # a home may be /
    assert not [place for place in places for text in texts if place in text]


def test_doing_it_again_keeps_the_version_and_moves_the_alias(work, registered):
    again = register(work / "run" / "pretrained", name="balls", alias="second")
    assert (again.version, again.run_id) == (registered.version, registered.run_id)
    assert len(client_of(work).search_model_versions("name = 'balls'")) == 1
    assert len(list((work / "mlartifacts" / "models").iterdir())) == 1


def test_another_model_is_another_version_and_takes_the_alias(work, registered):
    other = register(work / "run" / "scratch", name="balls", alias="contender")
    assert other.version != registered.version
    moved = register(work / "run" / "scratch", name="balls", alias="challenger")
    client = client_of(work)
    assert str(client.get_model_version_by_alias("balls", "challenger").version) == moved.version
    champion = client.get_model_version_by_alias("balls", "champion")
    assert str(champion.version) == registered.version
    assert moved.version == other.version


def test_its_lineage_begins_with_what_the_finetuning_read(work, registered):
    steps = lineage(destination(TrackingConfig(), work / "run"), "models:/balls@champion")
    inputs = read_json(work / "run" / "manifest.json")["inputs"]
    assert (steps[0].what, steps[0].stage, steps[0].digest) == (
        "model", "finetune", registered.digest,
    )  # fmt: skip
    assert {step.what: step.digest for step in steps[1:]} == inputs


def test_a_stage_whose_late_record_was_cut_short_is_completed(work, tmp_path, monkeypatch):
    shutil.copytree(work / "run", tmp_path / "run")
    tracking = TrackingConfig(uri=blank_store(tmp_path / "store"), experiment="x")
    client = connect(tracking.uri)
    with monkeypatch.context() as cut:
        cut.setattr(client, "log_batch", lambda *_, **__: (_ for _ in ()).throw(OSError("gone")))
        with pytest.raises(StoreError, match="cannot be reached, or failed"):
            register(tmp_path / "run" / "scratch", name="balls", tracking=tracking)
    done = register(tmp_path / "run" / "scratch", name="balls", tracking=tracking)
    run = client.get_run(done.run_id)
    inputs = read_json(tmp_path / "run" / "manifest.json")["inputs"]
    assert {f"input.{name}": digest for name, digest in inputs.items()} == run.data.params
    assert run.info.status == "FINISHED"
    assert len(client.search_runs([run.info.experiment_id])) == 1


def test_a_run_of_two_models_asks_which(work):
    with pytest.raises(InputError, match="holds 2 models: pretrained, scratch"):
        register(work / "run", name="balls")


def test_a_folder_without_a_model_says_so(tmp_path):
    with pytest.raises(InputError, match="there is no task model"):
        register(tmp_path, name="balls")


def test_a_model_of_nobody_knows_what_says_so(work, tmp_path):
    shutil.copytree(work / "run" / "scratch", tmp_path / "a" / "b" / "c" / "d" / "e" / "model")
    with pytest.raises(InputError, match="nothing says what the model comes from"):
        register(tmp_path / "a" / "b" / "c" / "d" / "e" / "model", name="balls")


def test_the_store_that_the_run_was_recorded_in_is_the_one(work, tmp_path):
    shutil.copytree(work / "run", tmp_path / "run")
    manifest = read_json(tmp_path / "run" / "manifest.json")
    elsewhere = blank_store(tmp_path / "elsewhere")
    manifest["config"]["tracking"] = {"enabled": True, "uri": elsewhere, "experiment": "x"}
    write_json(tmp_path / "run" / "manifest.json", manifest)
    done = register(tmp_path / "run" / "scratch", name="balls")
    assert connect(elsewhere).get_model_version("balls", done.version).run_id == done.run_id
    assert not (tmp_path / "mlflow.db").exists()


def test_nothing_in_the_registry_shows_the_folder_that_a_person_named(tmp_path):
    """Of the canaries: names of a folder, which may be a patient's."""
    folder = tmp_path / canaries.FOLDER / "Quillfeather^Ida" / "run"
    shutil.copytree(finetuned(), folder)
    tracking = TrackingConfig(uri=blank_store(tmp_path / "store"))
    done = register(folder / "pretrained", name="balls", alias="champion", tracking=tracking)
    client = connect(tracking.uri)
    run = client.get_run(done.run_id)
    (output,) = run.outputs.model_outputs
    fields = [
        run.to_dictionary(),
        dict(client.get_model_version("balls", done.version)),
        client.get_logged_model(output.model_id).to_dictionary(),
        *(p.read_bytes() for p in (tmp_path / "store" / "mlartifacts").rglob("*") if p.is_file()),
        (tmp_path / "store" / "mlflow.db").read_bytes(),
    ]
    text = " ".join(map(str, fields))
    assert done.digest in text
    assert "loader_module" in text
    assert not [name for name in canaries.everything() if name in text]


def test_a_model_that_a_run_under_the_stage_logged_is_not_logged_twice(work, tmp_path):
    tracking = TrackingConfig(uri=blank_store(tmp_path), experiment="x")
    shutil.copytree(work / "run", tmp_path / "run")
    model = tmp_path / "run" / "scratch"
    stage = open_tracker("finetune", tmp_path / "run", "key", tracking, {})
    with stage.child("fold 0", "fold-0") as fold:
        fold.log_model("scratch", model, package_of(model))
    stage.close()
    manifest = read_json(tmp_path / "run" / "manifest.json") | {"mlflow_run_id": stage.run_id}
    write_json(tmp_path / "run" / "manifest.json", manifest)
    done = register(model, name="balls", tracking=tracking)
    assert done.run_id == fold.run_id
    assert len(list((tmp_path / "mlartifacts" / "models").iterdir())) == 1


def test_a_model_is_spooled_and_made_once_however_often_it_is_sent(work, tmp_path):
    dead = TrackingConfig(uri="http://127.0.0.1:9", experiment="x")
    model = work / "run" / "scratch"
    tracker = open_tracker("finetune", tmp_path / "run", "key", dead, {})
    tracker.log_model("scratch", model, package_of(model))
    tracker.log_model("gone", tmp_path / "gone", package_of(model))
    tracker.log_metrics({"dice": 0.5}, 1)
    tracker.close()
    events = tracker.place.spool / "events.jsonl"
    kept = events.read_bytes()
    live = blank_store(tmp_path)
    assert send_spools(tmp_path / "run", live) == (1, 0)
    events.write_bytes(kept)  # as if it had been killed before it knew that all was sent
    assert send_spools(tmp_path / "run", live) == (1, 0)
    run = connect(live).get_run(json.loads((events.parent / "remote.json").read_text())["run_id"])
    (output,) = run.outputs.model_outputs
    made = connect(live).get_logged_model(output.model_id)
    assert (made.name, made.status.value) == ("scratch", "READY")
    assert run.data.metrics["dice"] == 0.5


def test_a_stage_of_a_pipeline_is_registered_where_the_pipeline_was_recorded(work, tmp_path):
    folder = tmp_path / "export" / "bundle"
    shutil.copytree(work / "run", folder)
    store = blank_store(tmp_path)
    with parent_run("p", tmp_path, "key", TrackingConfig()):
        stage = open_tracker("finetune", folder, "key", TrackingConfig(), {})
        stage.close()
    manifest = read_json(folder / "manifest.json") | {"mlflow_run_id": stage.run_id}
    write_json(folder / "manifest.json", manifest)
    done = register(folder / "scratch", name="balls", alias="champion")
    assert done.run_id == stage.run_id
    assert connect(store).get_model_version_by_alias("balls", "champion").run_id == stage.run_id
    assert not (tmp_path / "export" / "mlflow.db").exists()
