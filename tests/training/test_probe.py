"""Probes across patients: by their definitions, and in a pretraining."""

import json
import math

import pytest
import torch

from medssl.config.load import validate
from medssl.data.store import CropStore
from medssl.errors import InputError
from medssl.training.pretrain import PretrainConfig, pretrain
from medssl.training.probe import ProbeConfig, read_labels
from medssl.training.probe_scores import knn_accuracy, linear_accuracy, patient_folds
from tests.training.stores import write_store
from tests.training.test_pretrain import tree

PATIENTS = [f"p{n // 2}" for n in range(20)]


def clouds(apart):
    """Two labels, two rows a patient, as far apart as asked."""
    labels = torch.arange(20) // 2 % 2
    z = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    return z + apart * (2 * labels[:, None] - 1), labels


def test_folds_score_each_row_once_and_keep_patients_together():
    splits = patient_folds(PATIENTS, 5, seed=0)
    assert sorted(row for _, score in splits for row in score.tolist()) == list(range(20))
    for learn, score in splits:
        assert not {PATIENTS[n] for n in learn.tolist()} & {PATIENTS[n] for n in score.tolist()}
    with pytest.raises(ValueError, match=r"10 patient\(s\) cannot be divided into 11"):
        patient_folds(PATIENTS, 11, seed=0)


def slow_knn(z, labels, splits, k):
    right = 0
    for learn, score in splits:
        for m in score.tolist():
            cosines = sorted(
                (
                    (float(torch.cosine_similarity(z[m].double(), z[n].double(), dim=0)), n)
                    for n in learn.tolist()
                ),
                reverse=True,
            )
            votes = {}
            for cosine, n in cosines[:k]:
                votes[int(labels[n])] = votes.get(int(labels[n]), 0) + math.exp(cosine / 0.07)
            right += max(votes, key=votes.get) == int(labels[m])
    return right / len(labels)


def slow_linear(z, labels, splits, ridge):
    """The primal form, solved for every class on its own."""
    right = 0
    for learn, score in splits:
        x = z[learn].double()
        mean, std = x.mean(0), x.std(0, correction=0)
        x = (x - mean) / std
        size = x.shape[1]
        guesses = []
        for label in range(int(labels.max()) + 1):
            y = (labels[learn] == label).double()
            weights = (
                torch.linalg.inv(x.T @ x + ridge * size * torch.eye(size)) @ x.T @ (y - y.mean())
            )
            guesses.append((z[score].double() - mean) / std @ weights + y.mean())
        right += int((torch.stack(guesses).argmax(0) == labels[score]).sum())
    return right / len(labels)


@pytest.mark.parametrize("apart", [0.0, 0.3, 3.0])
def test_accuracies_match_their_definitions(apart):
    z, labels = clouds(apart)
    splits = patient_folds(PATIENTS, 5, seed=0)
    assert knn_accuracy(z, labels, splits, k=3) == slow_knn(z, labels, splits, 3)
    assert linear_accuracy(z, labels, splits, ridge=0.1) == slow_linear(z, labels, splits, 0.1)


def test_what_is_far_apart_is_told_apart():
    z, labels = clouds(9.0)
    splits = patient_folds(PATIENTS, 5, seed=0)
    assert knn_accuracy(z, labels, splits, k=100) == 1
    assert linear_accuracy(z, labels, splits, ridge=0.1) == 1


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("store") / "store")


def table(path, rows):
    path.write_text("volume_key,label\n" + "".join(f"{key},{label}\n" for key, label in rows))
    return path


def test_a_pretraining_is_probed_now_and_then_and_at_its_end(store, tmp_path):
    values = tree(store, tmp_path / "run")
    rows = [(f"v{n:02d}", "ab"[n % 2]) for n in range(8)]
    values["probe"] = {
        "table": str(table(tmp_path / "t.csv", rows)), "every_steps": 5, "folds": 4, "k": 3,
    }  # fmt: skip
    result = pretrain(validate(PretrainConfig, values, where="test"))
    lines = (result.folder / "metrics.jsonl").read_text().splitlines()
    probed = [row for row in map(json.loads, lines) if "probe/knn" in row]
    assert [row["step"] for row in probed] == [5, 10, 12]
    assert all(0 <= row["probe/linear"] <= 1 for row in probed)
    assert probed[0]["probe/majority_constant"] == 0.5
    assert (result.folder / "curves.png").stat().st_size > 0


def test_a_probe_is_asked_once_at_the_step_where_a_training_goes_on(store, tmp_path):
    """Each step has two batches, so that the first after a resume ends none."""
    values = tree(store, tmp_path / "run", steps=6)
    rows = [(f"v{n:02d}", "ab"[n % 2]) for n in range(8)]
    values["probe"] = {"table": str(table(tmp_path / "t.csv", rows)), "every_steps": 3}
    values["engine"] = {"accelerator": "cpu", "accumulate": 2}
    config = validate(PretrainConfig, values, where="test")
    pretrain(config)
    (config.out / "checkpoints" / "step-00000006.ckpt").unlink()
    manifest = config.out / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"finished"', '"running"'))
    pretrain(config)
    lines = (config.out / "metrics.jsonl").read_text().splitlines()
    assert [row["step"] for row in map(json.loads, lines) if "probe/knn" in row] == [3, 6]


def test_a_probe_changes_nothing_of_the_training(store, tmp_path):
    from safetensors.torch import load_file

    weights = []
    for name in ("with", "without"):
        values = tree(store, tmp_path / name, steps=4)
        if name == "with":
            rows = [(f"v{n:02d}", "ab"[n % 2]) for n in range(8)]
            values["probe"] = {"table": str(table(tmp_path / "t.csv", rows)), "every_steps": 2}
        pretrain(validate(PretrainConfig, values, where="test"))
        weights.append(load_file(tmp_path / name / "encoder.safetensors"))
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("v00", "a"), ("nobody", "b")], "1 of 2 volumes are not in the store\n"),
        ([(f"v{n:02d}", "a") for n in range(8)], r"1 label\(s\) of 8 patient"),
        ([("v00", "a"), ("v01", "b")], r"2 label\(s\) of 2 patient\(s\)"),
        ([("v00", "a"), ("v01", ""), ("v02", "  "), ("v03", "b")], "2 of 4 rows have no label"),
    ],
)
def test_a_table_that_cannot_serve_is_explained(rows, said, store, tmp_path):
    with pytest.raises(InputError, match=said):
        read_labels(ProbeConfig(table=table(tmp_path / "t.csv", rows)), CropStore(store))


def test_what_is_no_table_is_named(store, tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    for path in (tmp_path / "t.csv", tmp_path / "none.csv"):
        with pytest.raises(InputError, match="not a table of labels"):
            read_labels(ProbeConfig(table=path), CropStore(store))


def test_rows_cut_short_are_counted_and_not_named(store, tmp_path):
    path = table(tmp_path / "t.csv", [(f"v{n:02d}", "ab"[n % 2]) for n in range(8)])
    path.write_text(path.read_text() + "v08\n")
    with pytest.raises(InputError, match="1 of 9 rows have no label") as told:
        read_labels(ProbeConfig(table=path), CropStore(store))
    assert "v08" not in str(told.value)


def test_a_table_that_excel_wrote_is_read(store, tmp_path):
    path = table(tmp_path / "t.csv", [(f"v{n:02d}", "ab"[n % 2]) for n in range(8)])
    path.write_text(path.read_text(), encoding="utf-8-sig", newline="\r\n")
    labels = read_labels(ProbeConfig(table=path), CropStore(store))
    assert labels.labels_N.tolist() == [0, 1] * 4
