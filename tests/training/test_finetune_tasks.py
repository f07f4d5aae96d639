"""Fine-tuning of every kind of task and by every strategy, whole and interrupted."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from medssl.data.preprocessing import as_metatensor
from medssl.errors import ConfigError, InputError
from medssl.evaluation.evaluate import EvaluateConfig, evaluate
from medssl.inference.predictor import Predictor
from medssl.labelled.cases import read_image
from medssl.labelled.read import read_labelled
from medssl.runs.folder import read_json
from medssl.runs.tracking import Tracker
from medssl.training.finetune import finetune
from medssl.training.supervised import BestByValidation, SupervisedModule
from tests.finetuned import config, finetuned, write_dataset, write_table

SEVERAL = {"name": "classification", "columns": ["kernel", "odd"], "pooling": "attention"}
STRATEGIES = ("full", "frozen_encoder", "linear_probe", "sawtooth")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("table") / "balls")


@pytest.fixture(scope="module")
def encoder():
    return finetuned().parent / "encoder"


def about_volumes(table, out, task, **changes):
    changes = {"patches_per_step": 4, "schedule": {"steps": 12, "warmup_steps": 1}} | changes
    rhythm = {"validate_steps": 6, "record_steps": 3, "checkpoint_steps": 4}
    return config(table, out, task=task, rhythm=rhythm, **changes)


@pytest.mark.parametrize(
    ("task", "monitor"),
    [
        ({"name": "classification", "columns": ["finding"]}, "val_auroc"),
        ({"name": "classification", "columns": ["finding"], "core_tuning": {}}, "val_auroc"),
        (SEVERAL, "val_auroc"),
        ({"name": "regression", "columns": ["size"], "fit": "crop"}, "val_neg_mae"),
    ],
    ids=["binary", "core_tuning", "several", "regression"],
)  # fmt: skip
def test_whole_volumes_are_learned_with_a_twin(table, tmp_path, encoder, task, monitor):
    result = finetune(about_volumes(table, tmp_path / "run", task, encoder_from=encoder))
    for member in ("pretrained", "scratch"):
        assert f"{member}_{monitor}" in result.summary
        predictor = Predictor.load(tmp_path / "run" / member)
        labelled = read_labelled(table)
        volume = read_image(labelled.cases[0], labelled.modality)
        outputs = predictor.outputs(volume)
        assert outputs.shape == (len(predictor.task.answers),)
        assert np.isfinite(outputs).all()
    stored = json.loads((tmp_path / "run/pretrained/model.json").read_text())
    assert stored["network_def"] is None
    if task["name"] == "regression":
        train = read_json(tmp_path / "run/splits.json")["cases"]["train"]
        sizes = [float(labelled.case(key).targets["size"]) for key in train]
        assert stored["task"]["means"] == [pytest.approx(np.mean(sizes))]
        assert stored["task"]["stds"] == [pytest.approx(np.std(sizes))]


def test_a_bright_ball_is_told_from_a_dark_one(table, tmp_path):
    task = {"name": "classification", "columns": ["finding"]}
    encoder = {"name": "segresnet", "width": 4, "blocks": [1, 1, 1]}
    steps = {"schedule": {"steps": 60, "warmup_steps": 4}}
    result = finetune(about_volumes(table, tmp_path / "run", task, encoder=encoder, **steps))
    assert result.summary["scratch_val_auroc"] == 1.0


def test_slices_of_volumes_are_bags_for_a_flat_encoder(table, tmp_path):
    task = {"name": "classification", "columns": ["finding"], "pooling": "attention"}
    encoder = {"name": "unet", "dims": 2, "channels": [4, 8], "depths": [1, 1]}
    settings = about_volumes(
        table, tmp_path / "run", task, encoder=encoder, patch_voxels=(16, 16, 5)
    )
    assert 0 <= finetune(settings).summary["scratch_val_auroc"] <= 1


def test_what_is_predicted_is_what_validation_saw(table, tmp_path):
    task = {"name": "classification", "columns": ["finding"]}
    encoder = {"name": "segresnet", "width": 4, "blocks": [1, 1, 1]}
    finetune(about_volumes(table, tmp_path / "run", task, encoder=encoder))
    predictor = Predictor.load(tmp_path / "run/scratch")
    labelled = read_labelled(table)
    volume = read_image(labelled.cases[0], labelled.modality)
    data = predictor._preprocess({"image": as_metatensor(volume.array_IJK, volume.affine_ras)})
    assert data["image"].shape == (1, 16, 16, 16)
    with torch.no_grad():
        logits = predictor._network(data["image"].as_tensor()[None])[0]
    assert np.allclose(predictor.outputs(volume), logits.numpy(), atol=1e-5)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_is_resumed_with_the_same_bits(tmp_path, encoder, strategy, monkeypatch):
    dataset = finetuned().parent / "balls" / "dataset.json"
    changes = {
        "encoder_from": encoder,
        "from_scratch_twin": False,
        "strategy": {"name": strategy},
        "schedule": {"steps": 8, "warmup_steps": 1},
        "rhythm": {"validate_steps": 4, "record_steps": 4, "checkpoint_steps": 2},
    }
    finetune(config(dataset, tmp_path / "whole", **changes))

    def interrupted(self, batch_data, batch_idx, started=SupervisedModule.on_train_batch_start):
        if batch_idx == 5:
            raise KeyboardInterrupt
        started(self, batch_data, batch_idx)

    settings = config(dataset, tmp_path / "run", **changes)
    with monkeypatch.context() as patch:
        patch.setattr(SupervisedModule, "on_train_batch_start", interrupted)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            finetune(settings)
    finetune(settings)
    both = [
        load_file(tmp_path / name / "pretrained/model.safetensors") for name in ("run", "whole")
    ]
    assert all(torch.equal(both[0][key], both[1][key]) for key in both[1])
    stored = json.loads((tmp_path / "run/pretrained/model.json").read_text())
    assert stored["training"]["strategy"] == strategy


def test_deep_supervision_is_gone_from_the_trained_network(tmp_path):
    dataset = finetuned().parent / "balls" / "dataset.json"
    plain = {
        "encoder": {"name": "segresnet", "width": 4, "blocks": [1, 1, 1, 1]},
        "schedule": {"steps": 4, "warmup_steps": 1},
    }
    task = {"name": "segmentation", "deep_supervision": True}
    finetune(config(dataset, tmp_path / "deep", task=task, **plain))
    finetune(config(dataset, tmp_path / "plain", **plain))
    deep, shallow = (
        load_file(tmp_path / n / "scratch/model.safetensors") for n in ("deep", "plain")
    )
    assert set(deep) == set(shallow)
    assert any(not torch.equal(deep[name], shallow[name]) for name in deep)


def test_training_ends_when_patience_does(tmp_path):
    dataset = finetuned().parent / "balls" / "dataset.json"
    changes = {
        "encoder": {"name": "segresnet", "width": 4, "blocks": [1, 1, 1]},
        "optimizer": {"lr": 1e-12},  # nothing can become better
        "schedule": {"steps": 40, "warmup_steps": 1},
        "rhythm": {"validate_steps": 2, "record_steps": 4, "checkpoint_steps": 8},
        "patience": 3,
    }
    finetune(config(dataset, tmp_path / "run", **changes))
    history = read_json(tmp_path / "run/scratch/validation.json")
    best = max(history, key=lambda row: row["val/dice"])
    assert history[-1]["step"] == best["step"] + 3 * 2 < 40


def test_cases_with_other_classes_annotated_train_together(tmp_path):
    path = write_dataset(tmp_path / "balls", cases=8)
    described = json.loads(path.read_text())
    for entry in described["training"][::2]:
        entry["annotated"] = ["shell"]
    path.write_text(json.dumps(described))
    labelled = read_labelled(path)
    assert [case.annotated for case in labelled.cases[:2]] == [("shell",), None]
    encoder = {"name": "segresnet", "width": 4, "blocks": [1, 1, 1]}
    result = finetune(config(path, tmp_path / "run", encoder=encoder))
    assert result.summary["scratch_val_dice"] > 0
    evaluated = {"finetune": tmp_path / "run", "out": tmp_path / "out", "resamples": 100}
    evaluate(EvaluateConfig(**evaluated, tracking={"enabled": False}))
    scored = pd.read_csv(tmp_path / "out/cases.csv").set_index(["case_key", "answer"])["dice"]
    partly = {case.case_key for case in labelled.cases if case.annotated}
    for (key, answer), dice in scored.items():
        assert np.isnan(dice) == (key in partly and answer == "kernel")
    assert scored.isna().any()
    described["training"][0]["annotated"] = ["liver"]
    path.write_text(json.dumps(described))
    with pytest.raises(InputError, match="names 'liver' in 1 case"):
        read_labelled(path)


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"name": "segmentation"}, "has no label maps"),
        ({"name": "classification", "columns": ["colour"]}, "has no column colour"),
        ({"name": "classification", "columns": ["size", "kernel"]}, "beside 0 and 1"),
        ({"name": "regression", "columns": ["finding"]}, "are no numbers"),
        ({"name": "classification", "columns": ["size"]}, "too many for classes"),
    ],
)
def test_a_set_that_has_not_what_the_task_learns_is_explained(table, tmp_path, task, said):
    settings = about_volumes(table, tmp_path / "run", task, encoder={"name": "segresnet"})
    with pytest.raises((ConfigError, InputError), match=said):
        finetune(settings)
    assert not (tmp_path / "run" / "manifest.json").exists()


def test_training_cases_of_one_class_alone_are_explained(table, tmp_path):
    task = {"name": "classification", "columns": ["finding"]}
    one = {"encoder": {"name": "segresnet"}, "splits": {"test": 0.6, "val": 0.3}}
    with pytest.raises(ConfigError, match="are of 1 of the 2 classes of finding"):
        finetune(about_volumes(table, tmp_path / "run", task, **one))


def test_attention_is_adapted_by_small_matrices_that_are_merged(tmp_path):
    dataset = finetuned().parent / "balls" / "dataset.json"
    changes = {
        "encoder": {"name": "vit", "width": 24, "depth": 2, "heads": 2, "maps": 2, "patch": 4},
        "schedule": {"steps": 4, "warmup_steps": 1},
        "rhythm": {"validate_steps": 4, "record_steps": 4, "checkpoint_steps": 4},
    }
    finetune(config(dataset, tmp_path / "lora", strategy={"name": "lora"}, **changes))
    finetune(config(dataset, tmp_path / "full", **changes))
    names = [set(load_file(tmp_path / n / "scratch/model.safetensors")) for n in ("lora", "full")]
    assert names[0] == names[1]
    conv = changes | {"encoder": {"name": "segresnet", "width": 4, "blocks": [1, 1, 1]}}
    settings = config(dataset, tmp_path / "conv", strategy={"name": "lora"}, **conv)
    with pytest.raises(ConfigError, match="has none"):
        finetune(settings)


@pytest.mark.parametrize(
    ("task", "column", "value", "said"),
    [
        ({"name": "classification", "columns": ["finding"]}, "finding", "no", "no class"),
        ({"name": "classification", "columns": ["finding"]}, "finding", "", "no class"),
        ({"name": "regression", "columns": ["size"]}, "size", "", "known number"),
    ],
    ids=["one_class", "unknown", "no_number"],
)
def test_a_validation_that_measures_nothing_is_warned_of_once(
    table, tmp_path, caplog, task, column, value, said
):
    rows = pd.read_csv(table, dtype=str, keep_default_na=False)
    rows["image"] = [str(table.parent / name) for name in rows["image"]]
    rows["split"] = ["train"] * 10 + ["val"] * 3 + ["test"] * 3
    rows.loc[10:12, column] = value
    rows.to_csv(tmp_path / "balls.csv", index=False)
    encoder = {"name": "segresnet", "width": 4, "blocks": [1, 1]}
    result = finetune(
        about_volumes(tmp_path / "balls.csv", tmp_path / "run", task, encoder=encoder)
    )
    warned = [row.message for row in caplog.records if "last weights are kept" in row.message]
    assert len(warned) == 1
    assert said in warned[0]
    assert "scratch_best_step" not in result.summary
    assert len(read_json(tmp_path / "run/scratch/validation.json")) == 2


def test_of_equal_scores_the_one_of_less_loss_is_kept(table, tmp_path):
    task = {"name": "classification", "columns": ["finding"]}
    settings = about_volumes(table, tmp_path, task, encoder={"name": "segresnet"}, patience=2)
    best = BestByValidation(tmp_path, [], [], Tracker(), monitor="val/auroc", config=settings)
    losses = [np.nan, 0.5, 0.3, 0.3, 0.4]
    best.history = [
        {"step": step, "val/auroc": 1.0, "val/loss": loss} for step, loss in enumerate(losses)
    ]
    assert best.best["step"] == 2
    assert best.exhausted
    best.history.append({"step": 5, "val/auroc": 1.0, "val/loss": 0.2})
    assert not best.exhausted
    best.history.append({"step": 6, "val/auroc": 0.9, "val/loss": 0.1})
    assert best.best["step"] == 5
    again = BestByValidation(tmp_path, [], [], Tracker(), monitor="val/auroc", config=settings)
    again.load_state_dict(best.state_dict())
    assert again.best == best.best
