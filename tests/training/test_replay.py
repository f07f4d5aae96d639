"""A planted NaN is found where it was planted."""

import math

import pytest
import torch
from torch import nn

from medssl.config.load import validate
from medssl.data.dataset import CropDataset
from medssl.errors import InputError, TrainingError
from medssl.methods.voco import VoCo
from medssl.models.heads import BatchNormMLP
from medssl.training.offending import Offence
from medssl.training.pretrain import PretrainConfig, pretrain
from medssl.training.replay import Finding, first_nonfinite, replay
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
