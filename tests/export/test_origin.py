"""What a model card knows of the data: from the library, through curation, to the training."""

import dataclasses
import json

import pytest

from medssl.curation.curate import curate
from medssl.data.prepare import PrepareConfig, prepare
from medssl.data.store import CropStore
from medssl.export.origin import lineage, settings, trace
from medssl.runs.folder import read_json, write_json
from medssl.runs.manifest import Manifest
from tests.curation.libraries import Scan, blobs, curate_config, write_library
from tests.export.encoders import exported, write_run
from tests.finetuned import finetuned

QUIET = {"enabled": False}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    scans = {f"v{n}": Scan(blobs(n), f"patient-{n // 2}") for n in range(4)}
    scans["thin"] = Scan(blobs(9, shape=(30, 28, 6)), "another")
    library = write_library(root / "library", scans)
    curate(curate_config(library))
    where = {"library": library, "selection": "all", "out": root / "store"}
    prepare(PrepareConfig(**where, spacing_mm=(6, 6, 6), tracking=QUIET))
    return root / "store"


def trained(folder, store, digest=None, **config):
    """An encoder whose manifest says that it was trained on ``store``."""
    write_run(folder, "segresnet")
    Manifest(
        stage="pretrain",
        status="finished",
        config={
            "store": str(store),
            "method": {"name": "mae", "table": "/home/me/x.csv"},
            **config,
        },
        config_digest="c" * 64,
        inputs={"store": digest or CropStore(store).digest},
        versions={"git_commit": "abc"},
    ).write(folder)
    return folder


def test_the_data_of_a_pretraining_are_counted_from_store_and_library(tmp_path, store):
    found = trace(trained(tmp_path / "run", store))
    data = found["data"]
    assert (data["volumes"], data["patients"]) == (4, 2)
    assert data["modality"] == {"CT": 4}
    assert sum(data["splits"].values()) == 4
    assert data["spacing_mm"] == [6, 6, 6]
    assert data["curation"]["kept"] == 4
    assert data["curation"]["volumes"] == 5
    assert "slice_count" in data["curation"]["rules"]
    assert found["versions"] == {"git_commit": "abc"}


def test_data_that_were_made_anew_since_are_not_told(tmp_path, store):
    assert trace(trained(tmp_path / "run", store, digest="d" * 64))["data"] == {}
    assert trace(trained(tmp_path / "gone", store, digest="x"))["data"] == {}


def test_a_selection_that_was_made_anew_is_left_out(tmp_path, store):
    prepared = Manifest.read(store)
    other = dataclasses.replace(prepared, inputs={"selection": "e" * 64})
    other.write(store)
    try:
        assert "curation" not in trace(trained(tmp_path / "run", store))["data"]
    finally:
        prepared.write(store)


def test_what_training_began_with_is_its_parent(tmp_path, store):
    first = trained(tmp_path / "first", store)
    second = trained(tmp_path / "second", store, start_from={"weights": str(first)})
    line = lineage(trace(second))
    assert [run["stage"] for run in line] == ["pretrain", "pretrain"]
    assert line[1]["data"]["volumes"] == 4


def test_an_artefact_keeps_the_origin_of_its_run(tmp_path, store):
    run = trained(tmp_path / "run", store)
    artefact = exported(run, tmp_path / "out", "encoder_folder")
    origin = read_json(artefact / "provenance.json")["origin"]
    assert origin == json.loads(json.dumps(trace(run)))
    (tmp_path / "handed").mkdir()
    for path in artefact.iterdir():
        (tmp_path / "handed" / path.name).write_bytes(path.read_bytes())
    assert trace(tmp_path / "handed") == origin
    card = (artefact / "README.md").read_text()
    assert "## Data (pretrain)\n\n- volumes: 4\n- patients: 2\n" in card
    assert "## Curation (pretrain)" in card
    assert "- method: name mae, table a path" in card
    assert "/home/me" not in card + json.dumps(origin)
    assert str(tmp_path) not in card + json.dumps(origin)


def test_a_finetuning_tells_its_labelled_set_and_licence():
    found = trace(finetuned() / "pretrained")
    assert found["stage"] == "finetune"
    assert found["data"] == {
        "name": "Balls", "licence": "CC0", "modality": "MR", "cases": 8, "patients": 8
    }  # fmt: skip


def test_settings_have_no_paths():
    tree = {"method": {"a": ["/x/y", "word", 1]}, "out": "/z", "seed": 3}
    assert settings(tree) == {"method": {"a": ["a path", "word", 1]}, "seed": 3}


def test_a_damaged_provenance_says_nothing(tmp_path):
    write_json(tmp_path / "provenance.json", ["origin"])
    assert trace(tmp_path) == {}
