import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from medssl.cli.main import app
from medssl.errors import ConfigError, FolderError, InputError
from medssl.evaluation.frozen import look
from medssl.evaluation.probe import ProbeStageConfig, probe, verdict
from medssl.runs.folder import read_json
from tests.evaluation.frozen.sets import KERNEL, write_balls, write_encoder
from tests.training.stores import write_store

SCORES = {
    "knn": {"k": (1, 3)},
    "few_shot": {"shots": (1, 2, 50), "draws": 4},
    "retrieval": {"k": (1,)},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("probe")
    return root, write_balls(root / "balls"), write_encoder(root / "encoder")


def config(made, **changes):
    root, dataset, encoder = made
    options = {
        "encoders": {"mine": encoder},
        "dataset": dataset,
        "targets": (KERNEL,),
        "out": root / "out",
        "patch_voxels": (16, 16, 16),
        "most_patches": 2,
        "splits": {"test": 0.35, "val": 0.2},
        "scores": SCORES,
        "resamples": 100,
        "device": "cpu",
        "tracking": {"enabled": False},
    }
    return ProbeStageConfig.model_validate(options | changes)


@pytest.fixture(scope="module")
def probed(made):
    return probe(config(made))


def test_a_bright_kernel_is_known_without_training(probed):
    report = read_json(probed.folder / "scores.json")
    assert report["cases"] == 22
    assert report["patients"] == 11
    assert report["parts"]["test"] == {"cases": 8, "patients": 4}
    scores = report["encoders"]["mine"]["scores"]
    assert scores["linear_accuracy"]["mean"] > report["majority"]
    assert scores["linear_accuracy"]["patients"] == 4
    assert scores["retrieval_map"]["patients"] == 11
    assert scores["linear_auroc"]["mean"] > 0.9
    assert probed.summary["mine_linear_auroc"] == round(scores["linear_auroc"]["mean"], 4)


def test_every_encoder_stands_beside_one_that_never_learned(probed):
    encoders = read_json(probed.folder / "scores.json")["encoders"]
    assert set(encoders) == {"mine", "random_mine"}
    assert encoders["mine"]["random_twin"] == "random_mine"
    mine, twin = (encoders[name]["scores"] for name in ("mine", "random_mine"))
    assert set(mine) == set(twin)
    assert all(score["difference"] is None for score in twin.values())
    for name in ("knn_accuracy@1", "few_shot_mean@2", "effective_rank", "dense_alignment_1"):
        expected = mine[name]["mean"] - twin[name]["mean"]
        assert mine[name]["difference"]["mean"] == pytest.approx(expected)
    assert "few_shot_mean@50" not in mine  # no class has so many patients


def test_it_leaves_tables_and_pictures(probed):
    table = pd.read_csv(probed.folder / "scores.csv")
    assert {"encoder", "score", "mean", "low", "high", "difference_mean"} <= set(table)
    for path in probed.look_at.values():
        assert (probed.folder / path).stat().st_size > 0
    cka = read_json(probed.folder / "scores.json")["cka"]
    assert cka["rows"] == [f"{n} level {k}" for n in ("mine", "random_mine") for k in (0, 1)]
    assert np.diag(np.array(cka["matrix"], float)) == pytest.approx(1)
    rows = pq.read_table(probed.folder / "embeddings" / "mine.parquet").to_pylist()
    assert len(rows) == 22
    assert len(rows[0]["embedding"]) == 12
    assert "somebody" not in json.dumps(rows)


def test_the_same_again_is_handed_back(made, probed):
    assert probe(config(made)).skipped


def test_another_question_needs_another_folder(made, probed):
    with pytest.raises(FolderError, match="made otherwise"):
        probe(config(made, resamples=200))


def test_an_interrupted_probe_embeds_no_encoder_twice(made, monkeypatch, tmp_path):
    describe, seen = look.describe, []

    def counted(encoder, *args, **kwargs):
        seen.append(encoder)
        if len(seen) == 24:  # while the second encoder is at work
            raise KeyboardInterrupt
        return describe(encoder, *args, **kwargs)

    monkeypatch.setattr(look, "describe", counted)
    only = {"linear": None, "few_shot": None, "retrieval": None, "views": None}
    quick = {"scores": SCORES | only, "out": tmp_path / "out"}
    with pytest.raises(KeyboardInterrupt):
        probe(config(made, **quick))
    result = probe(config(made, **quick))
    assert len(seen) == 24 + 22
    assert "mine_knn_accuracy_at_1" in result.summary  # MLflow takes no @ in a name
    monkeypatch.setattr(look, "describe", describe)
    whole = probe(config(made, **quick | {"out": tmp_path / "whole"}))
    texts = [(folder / "scores.json").read_text() for folder in (result.folder, whole.folder)]
    assert texts[0] == texts[1]


def test_several_columns_of_a_crop_store_are_asked_at_once(tmp_path):
    store = write_store(tmp_path / "store", train=14, val=4)
    rows = [f"v{n:02d},{n % 2},{'' if n == 3 else int(n % 3 == 0)}" for n in range(18)]
    (tmp_path / "t.csv").write_text("\n".join(["volume_key,odd,third", *rows]))
    encoder = write_encoder(tmp_path / "encoder", spacing_mm=[3, 3, 3])
    found = probe(
        config(
            (tmp_path, store, encoder),
            table=tmp_path / "t.csv",
            targets=("odd", "third"),
            splits={"declared": False, "test": 0.4, "val": 0.2},
            scores={
                **SCORES,
                "linear": {"l2": (0.1, 1.0)},
                "views": None,
                "cka": None,
                "rank": False,
            },
        )
    )
    report = read_json(found.folder / "scores.json")
    assert report["targets"] == {"odd": {"yes": 9, "no": 9}, "third": {"yes": 5, "no": 12}}
    assert report["majority"] is None
    assert report["cka"] is None
    scores = report["encoders"]["mine"]["scores"]
    assert {"linear_auroc", "knn_auroc@1", "retrieval_map"} <= set(scores)
    assert not [name for name in scores if name.startswith("few_shot")]


def test_copies_never_see_each_other(made, tmp_path):
    groups = "".join(f"case-{n:03d},g\n" for n in range(1, 23) if (n - 1) // 2 % 2)
    (tmp_path / "copies.csv").write_text("volume_key,group_key\n" + groups)
    only = {"knn": None, "linear": None, "few_shot": None, "views": None, "rank": False,
            "cka": None, "retrieval": {}}  # fmt: skip
    aware = probe(config(made, scores=only, out=tmp_path / "aware",
                         duplicates=tmp_path / "copies.csv"))  # fmt: skip
    scores = read_json(aware.folder / "scores.json")["encoders"]["mine"]["scores"]
    assert scores["retrieval_map"]["patients"] == 6  # those without a kernel find nobody left


def test_a_class_that_nobody_could_learn_is_refused(made, tmp_path):
    images = sorted((made[1].parent / "imagesTr").iterdir())
    parts = ["train"] * 10 + ["val"] * 4 + ["test"] * 8
    rows = [
        f"{image},{n},{part},{'rare' if n == 21 else 'ab'[n % 2]}"
        for n, (image, part) in enumerate(zip(images, parts, strict=True))
    ]
    table = tmp_path / "cases.csv"
    table.write_text("\n".join(["image,patient,split,finding", *rows]))
    with pytest.raises(InputError, match="1 of 3 classes have no case among the training"):
        probe(config(made, dataset=table, targets=("finding",), out=tmp_path / "out"))


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"targets": ("tumour",)}, InputError, "no row has the column 'tumour'"),
        ({"targets": ("shell",)}, InputError, "there is nothing to tell apart"),
        ({"patch_voxels": (15, 16, 16)}, ConfigError, "no multiple of 2"),
        ({"splits": {"test": 0.0, "val": 0.2}}, ConfigError, "no case is left for test"),
        ({"encoders": {"mine": "nowhere"}}, InputError, "there is no encoder here"),
        ({"dataset": "nowhere/dataset.json"}, InputError, "there is no such file"),
    ],
)
def test_what_cannot_be_asked_is_explained_before_anything_is_left(
    made, tmp_path, changes, error, said
):
    with pytest.raises(error, match=said):
        probe(config(made, out=tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


def test_a_path_alone_is_named_as_its_folder_is(made):
    assert config(made, encoders=str(made[2])).encoders == {"encoder": made[2]}
    assert config(made, encoders={"mine": made[2]}).encoders == {"mine": made[2]}
    assert list(config(made, encoders="runs/voco-lr0.1").encoders) == ["voco-lr0.1"]
    assert list(config(made, encoders="r/checkpoints/step-1.ckpt").encoders) == ["step-1"]


def test_the_names_of_twins_are_not_for_encoders(made):
    with pytest.raises(ValueError, match="random_a: names that begin with random_"):
        config(made, encoders={"a": made[2], "random_a": made[2]})


def of_encoder(mean, low, high):
    difference = {"mean": mean, "low": low, "high": high, "patients": 5}
    return {"random_twin": "r", "scores": {"linear_accuracy": {"difference": difference}}}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ((0.2, 0.1, 0.3), "a knows more than its random twin: linear_accuracy +0.200 (+0.100"),
        ((-0.2, -0.3, -0.1), "a knows less than its random twin"),
        ((0.2, -0.1, 0.3), "a: no difference from its random twin is shown"),
        ((0.2, np.nan, np.nan), "a: too few patients"),
    ],
)
def test_the_verdict_says_no_more_than_the_interval(found, said):
    assert verdict({"a": of_encoder(*found)}, 0.95).startswith(said)


def test_the_command_reads_a_file(made, tmp_path, monkeypatch):
    monkeypatch.setattr("medssl.cli.console.set_up", lambda **_: None)
    file = tmp_path / "probe.yaml"
    _, dataset, encoder = made
    file.write_text(
        f"encoders: {{mine: {encoder}}}\ndataset: {dataset}\ntargets: [kernel]\nout: {tmp_path}\n"
    )
    help_text = CliRunner().invoke(app, ["probe", "--help"])
    assert "without fine-tuning" in help_text.output
    shown = CliRunner().invoke(app, ["probe", str(file), "scores.knn.k=[7]", "--dry-run"])
    assert shown.exit_code == 0, shown.output
    assert yaml.safe_load(shown.output)["scores"]["knn"]["k"] == [7]
