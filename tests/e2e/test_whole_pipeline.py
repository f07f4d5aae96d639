"""All eight stages as a person runs them, tiny; then every byte they left is searched."""

import json
import os
import re
import subprocess
import sys

import blosc2
import nibabel
import numpy as np
import pandas as pd
import pytest

pytestmark = pytest.mark.slow  # eight stages, twice

TINY = [
    "pretrain.schedule={steps: 6, warmup_steps: 1}",
    "pretrain.rhythm={record_steps: 2, validate_steps: 3, checkpoint_steps: 3}",
    "pretrain.method.views.crop_voxels=8",
    "pretrain.loader.validation_batches=1",
    "pretrain.encoder={name: segresnet, width: 4, blocks: [1, 1]}",
    "finetune.schedule={steps: 6, warmup_steps: 1}",
    "finetune.rhythm={record_steps: 2, validate_steps: 3, checkpoint_steps: 3}",
    "finetune.splits={test: 0.1, val: 0.05, train_patients: 4}",
    "evaluate.resamples=200",
]


@pytest.fixture(scope="module")
def work(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    command = [sys.executable, "-m", "medssl.cli.main", "--log-file", str(folder / "log.jsonl")]
    command += ["run", "configs/pipelines/quickstart.yaml", f"work={folder / 'work'}", *TINY]
    done = subprocess.run(
        command, cwd=root, env={**os.environ}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (folder / "stdout.txt").write_text(done.stdout + done.stderr)
    return folder


def test_every_stage_left_its_folder_and_where_to_look(work):
    results = json.loads((work / "work" / "results.json").read_text())
    stages = [row["stage"] for row in results]
    assert stages == [
        *("ingest", "curate", "prepare", "pretrain", "finetune", "evaluate"),
        *("export", "export", "predict"),
    ]
    for row in results:
        for path in row["look_at"].values():
            assert (work / "work" / row["folder"] / path).exists(), (row["stage"], path)


def test_planted_trouble_ends_in_the_tables_with_a_reason(work):
    library = work / "work" / "library"
    refused = pd.read_csv(library / "quarantine.csv")
    assert set(refused.reason_code) == {
        *("truncated_file", "truncated_pixel_data", "localizer", "not_dicom")
    }
    assert refused.reason.str.len().min() > 20
    ledger = pd.read_parquet(library / "selections" / "main" / "ledger.parquet")
    excluded = ledger[ledger["decision"] != "keep"]
    assert {"identical", "resampled"} <= set(excluded.reason_code)
    assert excluded[excluded.reason_code == "identical"].representative.str.len().min() > 0
    unfinished = [
        p.name for p in (work / "work").rglob("*") if p.name.endswith((".tmp", ".partial"))
    ]
    assert not unfinished


def test_one_parent_run_with_a_nested_run_per_stage(work):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{work / 'work' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("medssl")
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert [run.info.run_name for run in parents] == ["quickstart"]
    nested = [run for run in runs if run not in parents]
    assert {r.data.tags["mlflow.parentRunId"] for r in nested} == {parents[0].info.run_id}
    assert len(nested) == 9
    assert {run.info.status for run in runs} == {"FINISHED"}
    (pretraining,) = [run for run in nested if run.info.run_name == "pretrain"]
    curve = client.get_metric_history(pretraining.info.run_id, "intra")
    assert [point.step for point in curve] == [2, 4, 6]
    assert pretraining.data.params["seed"] == "0"
    assert pretraining.data.params["method.name"] == "voco"
    assert len(pretraining.data.params["input.store"]) == 64
    files = [f.path for f in client.list_artifacts(pretraining.info.run_id)]
    assert "config.yaml" in files
    shown = [f.path for f in client.list_artifacts(pretraining.info.run_id, "look_at")]
    assert "look_at/curves.png" in shown


def test_no_picture_of_a_patient_is_sent_to_mlflow(work):
    sent = [path for path in (work / "work" / "mlartifacts").rglob("*") if path.is_file()]
    tables = {".csv", ".json", ".jsonl", ".md", ".parquet", ".safetensors", ".yaml"}
    about_models = {"MLmodel", "requirements.txt"}
    plots = {"curves.png", "scores.png"}
    assert {path.name for path in sent if path.suffix not in tables} == plots | about_models


def test_masks_lie_on_the_grids_of_their_inputs(work, root):
    masks = pd.read_csv(work / "work" / "predict" / "predictions.csv")
    assert list(masks.outcome) == ["predicted", "predicted"]
    source = nibabel.load(root / "tests/data/hippocampus/imagesTr/hippocampus_011.nii.gz")
    found = [nibabel.load(path) for path in (work / "work" / "predict").rglob("*_seg.nii.gz")]
    (mask,) = [m for m in found if m.shape == source.shape]
    np.testing.assert_allclose(mask.affine, source.affine, atol=1e-5)
    assert any(m.shape == (192, 192, 19) for m in found)


def every_byte(folder):
    """Names and contents of all files, compressed ones also as what they hold."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name == "files.csv":  # private/, the one place for paths
            continue
        yield path, str(path.relative_to(folder)).encode()
        yield path, path.read_bytes()
        if path.suffix == ".parquet":
            yield path, pd.read_parquet(path).to_csv().encode()
        if path.suffix == ".b2nd":
            array = blosc2.open(str(path), mode="r")
            yield path, repr(dict(array.schunk.vlmeta.getall())).encode()


def test_no_identifier_of_the_test_dicom_is_in_any_byte_left_behind(work, shipped):
    canaries = json.loads((shipped / "canaries.json").read_text())
    needles = {text.lower() for text in strings(canaries)} | {"canary"}
    assert len(needles) > 60
    # eight digits of a birth date may also be digits of some number
    patterns = [rf"(?<![\d.]){n}(?!\d)" if n.isdigit() else re.escape(n) for n in needles]
    any_needle = re.compile("|".join(patterns).encode())
    found = {
        (path.name, hit.group())
        for path, content in every_byte(work)
        for hit in any_needle.finditer(content.lower())
    }
    assert not found


def strings(tree):
    if isinstance(tree, dict):
        for value in tree.values():
            yield from strings(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from strings(value)
    elif isinstance(tree, str):
        yield tree


def test_running_again_skips_every_stage(work, root):
    command = [sys.executable, "-m", "medssl.cli.main", "run", "configs/pipelines/quickstart.yaml"]
    command += [f"work={work / 'work'}", *TINY]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads((work / "work" / "results.json").read_text())
    assert all(row["skipped"] for row in results)
