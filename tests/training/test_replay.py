"""A planted NaN is found where it was planted."""

import math
import os
import shutil

import pytest
import torch
from torch import nn

from medssl.config.load import validate
from medssl.data.dataset import CropDataset
from medssl.data.views import Batch, Labelled
from medssl.errors import InputError, TrainingError
from medssl.methods.report_contrast import ReportContrast
from medssl.methods.voco import VoCo
from medssl.models.heads import BatchNormMLP
from medssl.training.offending import (
    Offence,
    load_offence,
    load_share,
    odd_image,
    save_offence,
    shares,
)
from medssl.training.pretrain import PretrainConfig, pretrain
from medssl.training.replay import Finding, first_nonfinite, replay
from tests.text_folders import tiny_text
from tests.training.pair_sets import write_pair_set
from tests.training.stores import write_store
from tests.training.test_pretrain import tree

OFFENCE = Offence(
    what="loss", step=0, batch_index=0, progress=0.0, seed=0, process=0, config_digest=""
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("store") / "store")


@pytest.fixture
def config(store, tmp_path):
    return validate(PretrainConfig, tree(store, tmp_path / "run"), where="test")


@pytest.fixture
def found(config):
    """Plant something in a method and its batch, and say where it is found."""

    def look(plant):
        from medssl.data.store import CropStore

        torch.manual_seed(0)
        method = config.method.build(encoder=config.encoder.build())
        dataset = CropDataset(
            CropStore(config.store), method.views, config.data, samples=2, batch_size=2, seed=0
        )
        batch = method.views.collate([dataset[0], dataset[1]])
        plant(method, batch)
        return first_nonfinite(method, batch, OFFENCE, config)

    return look


def head(method):
    """Return the first projector of a method and its name."""
    return next((n, m) for n, m in method.named_modules() if isinstance(m, BatchNormMLP))


class Log(nn.Module):
    """The logarithm of what should have been positive."""

    def forward(self, x):
        return (x - x.max() - 1).log()


class Root(torch.autograd.Function):
    """Something finite, with a gradient that is not."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * math.inf


def test_in_the_batch(found):
    def plant(method, batch):
        batch.views_BCIJK[1][3, 0, 2, 2, 2] = math.nan

    assert found(plant) == Finding("batch", "view 3 of kind 1")


def test_in_the_weights(found):
    def plant(method, batch):
        name, module = head(method)
        module[3].weight.data[0, 0] = math.inf
        expected.append(f"{name}.3.weight")

    expected = []
    assert found(plant) == Finding("weights", *expected)


def test_in_a_module(found):
    def plant(method, batch):
        name, module = head(method)
        module[2] = Log()
        expected.append(f"{name}.2")

    expected = []
    assert found(plant) == Finding("module", *expected)


def test_in_the_loss(found):
    def plant(method, batch):
        batch.geometry["position_labels_BNK"][0, 0, 0] = math.nan

    where = found(plant)
    assert where.where == "loss"
    assert "intra" in where.name


def test_in_a_gradient(found):
    class Blocked(nn.Linear):
        def forward(self, x):
            return Root.apply(super().forward(x))

    def plant(method, batch):
        name, module = head(method)
        module[3] = Blocked(16, 16)
        expected.append(f"{name}.3.")

    expected = []
    where = found(plant)
    assert where.where == "gradient"
    assert where.name.startswith(expected[0])


def test_nowhere(found):
    assert found(lambda method, batch: None) == Finding("nowhere")


def test_a_pretraining_stops_at_a_bad_batch_and_its_replay_names_it(config, monkeypatch):
    whole = CropDataset.__getitem__

    def broken(self, index):
        sample = whole(self, index)
        if index == 9 and self.config.split == "train":  # batches of two: the fifth
            sample.views_BCIJK[0][1, 0, 0, 0, 0] = math.nan
        return sample

    monkeypatch.setattr(CropDataset, "__getitem__", broken)
    with pytest.raises(TrainingError, match="step 5: the loss is not a finite number"):
        pretrain(config)
    seen = replay(config.out)
    assert seen.finding == Finding("batch", "view 3 of kind 0")
    assert (seen.offence.batch_index, seen.weights_step) == (4, 3)
    assert "Look at the volumes" in seen.words


def share(process, *, step=4, digest="", odd=None):
    """What a process keeps: one view and one labelled patch, and where a NaN is, if anywhere."""
    batch = Batch(
        [torch.zeros(2, 1, 4, 4, 4)],
        {},
        Labelled(torch.zeros(2, 1, 4, 4, 4), torch.zeros(2, 4, 4, 4, dtype=torch.long)),
    )
    if odd == "view":
        batch.views_BCIJK[0][1, 0, 0, 0, 0] = math.nan
    elif odd == "labelled image":
        batch.labelled.image_BCIJK[1, 0, 0, 0, 0] = math.inf
    told = OFFENCE.model_copy(
        update={"step": step, "process": process, "config_digest": digest, "batch_index": process}
    )
    return told, batch


@pytest.mark.parametrize("odd", ["view", "labelled image"])
@pytest.mark.parametrize("newest", [0, 1, 2])
def test_the_share_whose_images_are_no_numbers_comes_first(tmp_path, odd, newest):
    for process in (2, 1, 0):
        save_offence(tmp_path, *share(process, odd=odd if process == 1 else None))
    rank = f"-process-{newest}" if newest else ""
    os.utime(tmp_path / "nonfinite" / f"step-00000004{rank}" / "batch.json", (2**32, 2**32))
    assert [load_share(folder)[0].process for folder in shares(tmp_path)] == [1, 0, 2]
    offence, batch, folder = load_offence(tmp_path)
    assert (offence.process, folder.name) == (1, "step-00000004-process-1")
    assert odd_image(batch).startswith(odd)


def test_only_shares_of_the_newest_step_and_training_count(tmp_path):
    olds = [share(0, step=9, odd="view"), share(2, digest="another", odd="view")]
    for told, batch in olds:
        folder = save_offence(tmp_path, told, batch)
        os.utime(folder / "batch.json", (1, 1))
    for process in (1, 0):
        save_offence(tmp_path, *share(process))
    names = [folder.name for folder in shares(tmp_path)]
    assert names == ["step-00000004", "step-00000004-process-1"]


@pytest.mark.parametrize("odd", [0, 1])
def test_each_share_is_tried_until_one_shows_something(config, monkeypatch, odd):
    """Nothing shows in the images of a share, and yet its loss breaks."""
    whole = VoCo.loss

    def broken(self, batch, *, progress):
        output = whole(self, batch, progress=progress)
        output.total.mul_(math.nan)
        return output

    monkeypatch.setattr(VoCo, "loss", broken)
    with pytest.raises(TrainingError, match="step 1"):
        pretrain(config)
    monkeypatch.undo()
    offence, batch, _ = load_offence(config.out)
    for process in (0, 1):
        geometry = {key: value.clone() for key, value in batch.geometry.items()}
        if process == odd:
            geometry["position_labels_BNK"][0, 0, 0] = math.nan
        told = offence.model_copy(update={"process": process})
        save_offence(config.out, told, batch._replace(geometry=geometry))
    seen = replay(config.out)
    assert (seen.finding.where, seen.offence.process) == ("loss", odd)
    assert seen.folder.name == "step-00000000" + odd * "-process-1"


@pytest.fixture(scope="module")
def reports(store):
    write_pair_set(store.parent / "pairs")
    tiny_text(store.parent / "text")
    return store.parent


def report_tree(data, out, train):
    text = tiny_text(data / "text").model_dump(mode="json")
    return tree(data / "store", out) | {
        "pairs": {"folder": str(data / "pairs")},
        "method": {
            "name": "report_contrast",
            "views": {"crop_voxels": 16},
            "model": {"dim": 8, "text": {**text, "train": train}},
            "concepts": {},
        },
        "loader": {"volumes_per_batch": 3, "workers": 0, "validation_batches": 1},
        "tracking": {"enabled": False},
    }


def stop_at_a_report(monkeypatch, config):
    """Let a pretraining break at its fifth step, for no reason that a replay would find."""
    whole = ReportContrast.loss

    def broken(self, batch, *, progress):
        output = whole(self, batch, progress=progress)
        if progress > 0.3:
            output.total.mul_(math.nan)
        return output

    with monkeypatch.context() as patched:
        patched.setattr(ReportContrast, "loss", broken)
        with pytest.raises(TrainingError, match="step 5"):
            pretrain(config)


@pytest.mark.parametrize("train", ["frozen", "full"])
def test_a_method_that_reads_reports_is_replayed(reports, tmp_path, monkeypatch, train):
    config = validate(PretrainConfig, report_tree(reports, tmp_path, train), where="test")
    stop_at_a_report(monkeypatch, config)
    seen = replay(tmp_path)
    assert (seen.finding.where, seen.weights_step) == ("nowhere", 3)
    kept = tmp_path / "text_states.safetensors"
    assert kept.is_file() == (train == "frozen")
    if train == "frozen":
        kept.unlink()
        assert replay(tmp_path).finding.where == "nowhere"
        assert kept.is_file()


def test_reports_that_have_changed_are_not_replayed(reports, tmp_path, monkeypatch):
    shutil.copytree(reports, tmp_path / "data")
    values = report_tree(tmp_path / "data", tmp_path / "run", "frozen")
    config = validate(PretrainConfig, values, where="test")
    stop_at_a_report(monkeypatch, config)
    write_pair_set(tmp_path / "data" / "pairs", train=5)
    with pytest.raises(InputError, match="reports are no longer those of the training"):
        replay(config.out)


def test_with_the_weights_before_all_may_be_finite(config, monkeypatch):
    whole = VoCo.loss

    def broken(self, batch, *, progress):
        output = whole(self, batch, progress=progress)
        if progress > 0.5:
            output.total.mul_(math.nan)
        return output

    monkeypatch.setattr(VoCo, "loss", broken)
    with pytest.raises(TrainingError, match="step 8"):
        pretrain(config)
    monkeypatch.undo()
    seen = replay(config.out)
    assert (seen.finding.where, seen.weights_step) == ("nowhere", 6)
    assert "in the 1 steps after them" in seen.words


def test_a_folder_without_such_a_batch_is_named(tmp_path):
    with pytest.raises(InputError, match="no batch is kept here"):
        replay(tmp_path)
