import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from medssl.config.load import validate
from medssl.errors import ConfigError, InputError, TrainingError
from medssl.labelled.read import read_labelled
from medssl.models.encoders.segresnet import SegResNetEncoder
from medssl.models.encoders.swin_unetr import SwinUNETREncoder
from medssl.models.encoders.unet import UNetEncoder
from medssl.models.weights import load_encoder, save_encoder
from medssl.runs.folder import read_json
from medssl.tasks._objective import Objective
from medssl.training.finetune import FinetuneConfig, check_fit, finetune, make_plan
from medssl.training.supervised import SupervisedModule
from medssl.training.task_model import load_task_model
from medssl.training.twins import build_network, count_loaded, strategy_of, training_batches
from tests.finetuned import config, finetuned, write_dataset, write_encoder

SMALL = {"name": "segresnet", "width": 4, "blocks": (1, 1)}


@pytest.fixture
def dataset():
    return finetuned().parent / "balls" / "dataset.json"


@pytest.fixture
def encoder():
    return finetuned().parent / "encoder"


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_both_twins_learn_and_leave_what_is_promised():
    run = finetuned()
    for member in ("pretrained", "scratch"):
        best = max(read_json(run / member / "validation.json"), key=lambda row: row["val/dice"])
        assert best["val/dice"] > 0.8
        about = load_task_model(run / member).description
        assert about.training["best"] == best
        for name in (
            "model.safetensors",
            "model.json",
            "curves.png",
            "checkpoints/step-00000024.ckpt",
        ):
            assert (run / member / name).is_file()
    summary = read_json(run / "manifest.json")["summary"]
    assert summary["train_cases"] == 3
    assert summary["test_cases"] == 3
    assert set(read_json(run / "splits.json")["cases"]) == {"train", "val", "test"}


def test_the_encoder_is_loaded_whole_and_counted():
    summary = read_json(finetuned() / "manifest.json")["summary"]
    encoder, _ = load_encoder(finetuned().parent / "encoder")
    assert summary["encoder_tensors_loaded"] == len(encoder.state_dict())
    assert summary["encoder_tensors_unused"] == 0


def test_twins_share_everything_but_the_encoders_first_weights(tmp_path, dataset, encoder):
    settings = config(dataset, tmp_path, encoder_from=encoder)
    plan, _ = make_plan(settings, read_labelled(dataset))
    pretrained, loaded, _, definition = build_network(settings, "pretrained", plan.task)
    scratch, _, _, same_definition = build_network(settings, "scratch", plan.task)
    assert definition == same_definition
    assert count_loaded(loaded, pretrained)["encoder_tensors_loaded"] > 0
    mine, theirs = pretrained.state_dict(), scratch.state_dict()
    assert mine.keys() == theirs.keys()
    differing = {name for name in mine if not torch.equal(mine[name], theirs[name])}
    assert differing
    assert all(name.startswith("encoder.") for name in differing)
    drawn = {name for name in mine if name.startswith("encoder.") and mine[name].ndim > 1}
    assert differing == drawn  # normalisation weights begin as ones and zeros in both
    for one, other in zip(
        training_batches(plan, start=0), training_batches(plan, start=0), strict=True
    ):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["label"], other["label"])


def test_the_pretrained_twin_begins_with_the_encoders_weights(tmp_path, dataset, encoder):
    settings = config(dataset, tmp_path, encoder_from=encoder)
    plan, _ = make_plan(settings, read_labelled(dataset))
    network, *_ = build_network(settings, "pretrained", plan.task)
    stored, _ = load_encoder(encoder)
    state = network.state_dict()
    for name, value in stored.state_dict().items():
        assert torch.equal(state[f"encoder.{name.removeprefix('net.')}"], value)


def test_batches_from_the_middle_are_those_of_the_whole(tmp_path, dataset, encoder):
    plan, _ = make_plan(config(dataset, tmp_path, encoder_from=encoder), read_labelled(dataset))
    whole = [batch["image"] for batch in training_batches(plan, start=0)]
    rest = [batch["image"] for batch in training_batches(plan, start=20)]
    assert len(whole) == 24
    assert all(torch.equal(a, b) for a, b in zip(whole[20:], rest, strict=True))


@pytest.mark.parametrize(("member", "batch"), [("pretrained", 11), ("scratch", 21)])
def test_an_interrupted_run_ends_with_the_same_bits(
    tmp_path, dataset, encoder, monkeypatch, member, batch
):
    settings = config(dataset, tmp_path / "run", encoder_from=encoder)
    seed_batch, calls = SupervisedModule.on_train_batch_start, []

    def interrupted(self, batch_data, batch_idx):
        calls.append(batch_idx)
        if calls.count(batch) == ["pretrained", "scratch"].index(member) + 1:
            raise ConnectionAbortedError("the power went")
        return seed_batch(self, batch_data, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(SupervisedModule, "on_train_batch_start", interrupted)
        with pytest.raises(ConnectionAbortedError):
            finetune(settings)
    assert not (tmp_path / "run" / member / "model.json").exists()
    finetune(settings)
    for twin in ("pretrained", "scratch"):
        resumed, whole = weights(tmp_path / "run" / twin), weights(finetuned() / twin)
        assert all(torch.equal(resumed[name], whole[name]) for name in whole)
        history = read_json(tmp_path / "run" / twin / "validation.json")
        assert history == read_json(finetuned() / twin / "validation.json")


def test_a_finished_run_is_handed_back(dataset, encoder):
    result = finetune(config(dataset, finetuned(), encoder_from=encoder))
    assert result.skipped


def test_without_an_encoder_there_is_one_model(tmp_path, dataset):
    settings = config(
        dataset,
        tmp_path / "run",
        encoder={"name": "segresnet", "width": 4, "blocks": (1, 1)},
        schedule={"steps": 2, "warmup_steps": 0},
    )
    finetune(settings)
    assert {path.name for path in (tmp_path / "run").iterdir() if path.is_dir()} == {"scratch"}


def test_what_does_not_fit_is_explained_before_anything_is_trained(tmp_path, dataset, encoder):
    with pytest.raises(ConfigError, match=r"one voxel spans 4\n  hint: make every size a multiple"):
        finetune(config(dataset, tmp_path / "a", encoder_from=encoder, patch_voxels=(16, 18, 16)))
    with pytest.raises(ConfigError, match="not both and not neither"):
        validate(
            FinetuneConfig,
            {"dataset": "x", "out": "y", "preprocessing": {"intensity": {"name": "mr"}}},
            where="test",
        )
    broken = write_encoder(tmp_path / "encoder", width=4)
    about = json.loads((broken / "encoder.json").read_text())
    about["encoder"]["width"] = 8
    (broken / "encoder.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match="encoder"):
        finetune(config(dataset, tmp_path / "b", encoder_from=broken))
    with pytest.raises(InputError, match="no such file"):
        finetune(config(tmp_path / "dataset.json", tmp_path / "c", encoder_from=encoder))
    assert not [path for path in ("a", "b", "c") if (tmp_path / path).exists()]


def test_intensities_other_than_the_encoders_are_warned_of(tmp_path, dataset, encoder, caplog):
    path = shutil.copytree(encoder, tmp_path / "encoder") / "encoder.json"
    trained = {"mr": {"name": "mr"}, "ct": {"name": "ct", "window_hu": [-1000.0, 1000.0]}}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"intensity": trained}))
    window = {"name": "ct", "window_hu": [-100, 300]}
    for intensity, warned in ((window, True), ({"name": "mr"}, False)):
        caplog.clear()
        settings = config(
            dataset,
            tmp_path / "out",
            encoder_from=path.parent,
            preprocessing={"spacing_mm": (1, 1, 1), "intensity": intensity},
            patch_voxels=(3, 3, 3),
        )
        with pytest.raises(ConfigError):
            finetune(settings)
        assert ("may not mean much" in caplog.text) is warned


def test_an_encoder_that_is_not_in_the_network_is_refused(encoder):
    one, _ = load_encoder(encoder)
    other, _ = load_encoder(encoder)
    network, _ = other.segmenter(3)
    with pytest.raises(InputError, match="21 of the encoder's 21 tensors are not part"):
        count_loaded(one, network)


def test_a_data_set_without_test_cases_trains(tmp_path):
    dataset = write_dataset(tmp_path / "balls", cases=3)
    settings = config(
        dataset,
        tmp_path / "run",
        encoder={"name": "segresnet", "width": 4, "blocks": (1, 1)},
        splits={"test": 0.0, "val": 0.3},
        schedule={"steps": 2, "warmup_steps": 0},
    )
    assert finetune(settings).summary["test_cases"] == 0


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(
    "kind",
    [
        SwinUNETREncoder.Config.tiny(),
        SegResNetEncoder.Config(width=4, blocks=(1, 1, 1, 1)),
        UNetEncoder.Config(channels=(4, 4, 4, 8), depths=(1, 1, 1, 1)),
    ],
    ids=["swin_unetr", "segresnet", "unet"],
)
def test_twins_of_a_pretrained_decoder_share_the_head(tmp_path, dataset, kind, deep):
    torch.manual_seed(5)
    encoder = kind.build()
    decoder = encoder.decoder()
    save_encoder(tmp_path / "encoder", encoder, decoder=decoder, spacing_mm=[1, 1, 1])
    task = {"name": "segmentation", "deep_supervision": deep}
    settings = config(dataset, tmp_path, encoder_from=tmp_path / "encoder", task=task)
    plan, _ = make_plan(settings, read_labelled(dataset))
    built = [build_network(settings, member, plan.task) for member in ("pretrained", "scratch")]
    heads = [one.encoder.last_layer(one.network).state_dict() for one in built]
    added = [one.objective.state_dict() for one in built]
    for mine, theirs in (heads, added):
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    inside = [value.flatten() for value in built[0].network.state_dict().values()]
    for value in decoder.state_dict().values():
        assert any(torch.equal(value.flatten(), other) for other in inside)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"encoder": {"name": "unet", "dims": 2, "channels": (4, 4), "depths": (1, 1)}}, "slices"),
        (
            {
                "encoder": {"name": "unet", "dims": 2, "channels": (4, 4), "depths": (1, 1)},
                "patch_voxels": (16, 16, 1),
            },
            "slices",
        ),
        (
            {
                "encoder": {"name": "swin_unetr", "feature_size": 12, "window": 2},
                "patch_voxels": (32, 32, 32),
            },
            "coarsest map shows as one voxel",
        ),
        (
            {
                "encoder": {**SMALL, "blocks": (1, 1, 1, 1)},
                "task": {"deep_supervision": True, "head": "linear"},
            },
            "task.head decoder",
        ),
    ],
    ids=["flat", "flat_patch", "one_voxel", "deep_linear"],
)
def test_what_cannot_take_a_step_is_refused_before_anything_is_left(
    tmp_path, dataset, changes, said
):
    changes.setdefault("task", {})["name"] = "segmentation"
    with pytest.raises(ConfigError, match=said):
        finetune(config(dataset, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_a_step_is_rehearsed_and_what_it_meets_is_said(tmp_path, dataset, monkeypatch):
    settings, labelled = config(dataset, tmp_path, encoder=SMALL), read_labelled(dataset)
    before = torch.get_rng_state()
    check_fit(settings, labelled)
    assert torch.equal(torch.get_rng_state(), before)
    tried = []

    def broken(self, batch):
        tried.append({name: tuple(value.shape) for name, value in batch.items()})
        raise RuntimeError("Expected 3D input\nand more")

    monkeypatch.setattr(Objective, "forward", broken)
    with pytest.raises(ConfigError, match=r"patch_voxels \[16, 16, 16\], 2 at once: Expected 3D i"):
        check_fit(settings, labelled)
    assert tried == [dict.fromkeys(("image", "label"), (2, 1, 16, 16, 16))] * 2  # once computed


def gone(self, optimizer):
    for weight in self.parameters():
        weight.grad.fill_(torch.nan)


@pytest.mark.parametrize(
    ("lr", "steps", "hook", "said"),
    [
        (1e30, 6, None, "step 2: the loss is not"),
        (1e-3, 1, gone, "step 1: a weight of the network is not"),
    ],
    ids=["loss", "last_step"],
)
def test_a_diverged_training_is_stopped(tmp_path, dataset, monkeypatch, lr, steps, hook, said):
    settings = config(
        dataset,
        tmp_path / "run",
        encoder=SMALL,
        optimizer={"name": "sgd", "lr": lr},
        schedule={"steps": steps, "warmup_steps": 0},
    )
    if hook:
        monkeypatch.setattr(SupervisedModule, "on_before_optimizer_step", hook)
    with pytest.raises(TrainingError, match=f"{said} a finite number\n  hint: lower optimizer.lr"):
        finetune(settings)
    kept = [path.suffix for path in (tmp_path / "run" / "scratch").rglob("*")]
    assert not {".safetensors", ".ckpt"}.intersection(kept)


def test_losses_nobody_has_looked_at_are_read_before_a_state_is_kept(tmp_path, dataset):
    settings = config(dataset, tmp_path, encoder=SMALL)
    plan, _ = make_plan(settings, read_labelled(dataset))
    network, encoder, objective, _ = build_network(settings, "scratch", plan.task)
    strategy = strategy_of(settings, "scratch")
    module = SupervisedModule(network, plan.task, encoder, strategy, objective, settings)
    module.check_finite()
    module._finite = [(step, torch.tensor(fine)) for step, fine in ((3, True), (4, False))]
    with pytest.raises(TrainingError, match="step 4: the loss"):
        module.on_save_checkpoint({})


def test_patches_are_not_centred_on_voxels_that_are_ignored(tmp_path, dataset):
    settings = config(
        dataset,
        tmp_path,
        encoder=SMALL,
        task={"name": "segmentation", "ignore_label": 2},
        augment={"foreground_share": 1.0, "flip_axes": ()},
        patch_voxels=(4, 4, 4),
    )
    plan, _ = make_plan(settings, read_labelled(dataset))
    centres = [batch["label"][:, 0, 2, 2, 2] for batch in training_batches(plan, start=0)]
    assert set(torch.cat(centres).tolist()) == {1}
