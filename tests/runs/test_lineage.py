"""Walks over runs in a real SQLite store; what they made and read has made-up digests."""

import pytest

from medssl.config.base import Config
from medssl.errors import InputError
from medssl.runs.destination import Destination
from medssl.runs.mlflow.connection import StoreError, connect
from medssl.runs.mlflow.lineage import lineage, walk
from medssl.runs.mlflow.registry import check_names
from medssl.runs.stage import open_stage
from medssl.runs.tracking import TrackingConfig


class Example(Config):
    tracking: TrackingConfig


def digest(word):
    return word.encode().hex().ljust(64, "0")[:64]


def stage(name, folder, live, reads, makes):
    inputs = {what: digest(word) for what, word in reads.items()}
    outputs = {what: digest(word) for what, word in makes.items()}
    with open_stage(
        name, folder / name, Example(tracking=live), inputs=inputs, tracking=live
    ) as run:
        run.finish(summary={}, outputs=outputs)
    return run.tracker.run_id


@pytest.fixture
def walked(live, tmp_path):
    """Runs from a library to a model; return (id of the last run, names by id)."""
    mark = tmp_path.name  # another walk's digests in the same store are others
    stage("ingest", tmp_path, live, {"files": f"f{mark}"}, {"catalog": f"c{mark}"})
    stage("curate", tmp_path, live, {"catalog": f"c{mark}"}, {"selection": f"s{mark}"})
    stage("prepare", tmp_path, live, {"selection": f"s{mark}"}, {"store": f"t{mark}"})
    stage("adapt", tmp_path, live, {"start": f"p{mark}"}, {"encoder": f"a{mark}"})
    pretrained = {"store": f"t{mark}", "start": f"a{mark}"}
    stage("pretrain", tmp_path, live, pretrained, {"encoder": f"e{mark}"})
    reads = {"encoder": f"e{mark}", "dataset": f"d{mark}"}
    return stage("finetune", tmp_path, live, reads, {"pretrained": f"m{mark}"})


def test_a_model_is_walked_back_to_the_scans_of_the_library(walked, live):
    steps = walk(connect(live.uri), walked, digest("m"))
    assert [(step.depth, step.what, step.stage) for step in steps] == [
        (0, "model", "finetune"),
        (1, "dataset", None),
        (1, "encoder", "pretrain"),
        (2, "start", "adapt"),
        (3, "start", None),
        (2, "store", "prepare"),
        (3, "selection", "curate"),
        (4, "catalog", "ingest"),
        (5, "files", None),
    ]
    assert all(bool(step.run_id) == bool(step.stage) for step in steps)


def test_a_child_run_read_what_its_stage_read(live, tmp_path):
    reads = {"dataset": digest(f"x{tmp_path.name}")}
    config = Example(tracking=live)
    with open_stage("sweep", tmp_path, config, inputs=reads, tracking=live) as run:
        with run.tracker.child("fold 0", "fold-0", {"output.pretrained": digest("m")}) as fold:
            pass
        run.finish(summary={})
    steps = walk(connect(live.uri), fold.run_id, digest("m"))
    assert [(step.what, step.stage, step.parent_run_id) for step in steps] == [
        ("model", "sweep", run.tracker.run_id),
        ("dataset", None, None),
    ]


def test_a_bundle_is_walked_through_the_finetuning_it_was_made_of(walked, live, tmp_path):
    mark = tmp_path.name
    last = stage("export", tmp_path, live, {"model": f"m{mark}"}, {"model.json": f"j{mark}"})
    steps = walk(connect(live.uri), last, digest(f"m{mark}"))
    assert [step.stage for step in steps[:2]] == ["export", "finetune"]
    assert steps[1].run_id == walked
    assert "ingest" in {step.stage for step in steps}


@pytest.mark.parametrize("uri", ["champion", "models:/", "models:/a/b", "runs:/x", "models:/a@b@c"])
def test_what_names_no_model_is_explained(live, uri):
    with pytest.raises(InputError, match="does not name a registered model"):
        lineage(Destination(live.uri, "x", None), uri)


def test_a_model_that_is_not_registered_is_explained(live):
    to = Destination(live.uri, "x", None)
    for uri in ("models:/nobody/1", "models:/nobody@champion"):
        with pytest.raises(StoreError, match="has no such run, model or alias"):
            lineage(to, uri)
    with pytest.raises(InputError, match="no version of 'nobody' is registered"):
        lineage(to, "models:/nobody")


@pytest.mark.parametrize("name", ["", " ", "a/b", "a:b", "x" * 256])
def test_names_that_mlflow_refuses_are_refused_before_anything_is_sent(name):
    with pytest.raises(InputError, match="cannot be the name of a model"):
        check_names(name, None)


@pytest.mark.parametrize("alias", ["latest", "v3", "a b", "", "ä"])
def test_aliases_that_mlflow_refuses_are_refused(alias):
    with pytest.raises(InputError, match="cannot be an alias"):
        check_names("liver", alias)


def test_good_names_pass():
    check_names("liver tumours, CT", "champion-2_b")
