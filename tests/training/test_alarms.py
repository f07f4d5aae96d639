"""A loss at its bound, and one that is no number: told, stopped, and kept to be seen again."""

import logging

import pytest
import torch
from torch import nn

from medssl.data.views import Batch
from medssl.errors import TrainingError
from medssl.training.alarms import ConstantLossAlarm, NonFiniteAlarm
from medssl.training.collapse import CollapseConfig
from medssl.training.offending import load_offence

BATCH = Batch([torch.arange(8.0).view(1, 1, 2, 2, 2)], {"place": torch.ones(1, 2)})


class FakeTrainer:
    precision, global_step = "32-true", 0

    def __init__(self):
        self.callback_metrics = {}


class FakeModule(nn.Module):
    """Stands for a training module, its method and its schedule."""

    seed, steps = 5, 10

    def __init__(self, bound=2.0):
        super().__init__()
        self.weight, self.bound, self.logged = nn.Parameter(torch.zeros(2)), bound, {}

    method = schedule = property(lambda self: self)

    def constant_loss(self, batch):
        return {"intra": self.bound}

    def log_dict(self, numbers):
        self.logged |= numbers


def watch(losses, caplog, *, bound=2.0, **options):
    alarm = ConstantLossAlarm(
        CollapseConfig(patience_steps=30, **options), every_steps=10, warmup_steps=20
    )
    trainer, module = FakeTrainer(), FakeModule(bound)
    with caplog.at_level(logging.WARNING):
        for number, loss in enumerate(losses):
            trainer.global_step = 10 * number
            trainer.callback_metrics["intra"] = torch.tensor(loss)
            alarm.on_train_batch_end(trainer, module, None, BATCH, 0)
    assert module.logged == {"intra_constant": bound}
    return alarm.raised, [record.getMessage() for record in caplog.records]


def test_a_loss_that_stays_at_its_bound_raises_one_alarm_after_warmup_and_patience(caplog):
    raised, said = watch([2.0] * 5, caplog)  # steps 0 to 40; 30 and 40 are past the warm-up
    assert (raised, said) == (set(), [])
    raised, said = watch([2.01] * 9, caplog)
    assert raised == {"intra"}
    (line,) = said
    assert line.startswith("step 50: the loss part intra stays at 2.0100; an encoder blind")


def test_where_nothing_is_compared_the_advice_is_another(caplog):
    raised, (line,) = watch([0.0] * 9, caplog, bound=0.0)
    assert raised == {"intra"}
    assert "Batches hold nothing to compare: take more volumes" in line


@pytest.mark.parametrize("loss", [1.9, 2.1, 0.0])
def test_a_loss_away_from_its_bound_raises_none(loss, caplog):
    assert watch([loss] * 9, caplog) == (set(), [])


def test_an_episode_ends_and_another_is_told_again(caplog):
    raised, said = watch([2.0] * 6 + [1.0] * 6 + [2.0] * 6, caplog)
    assert raised == {"intra"}
    assert len(said) == 2


def run_alarm(folder, *, loss=1.0, gradient=0.0, precision="32-true"):
    alarm, trainer, module = NonFiniteAlarm(folder), FakeTrainer(), FakeModule()
    trainer.precision, trainer.global_step = precision, 3
    alarm.on_train_batch_start(trainer, module, BATCH, 7)
    alarm.on_before_backward(trainer, module, torch.tensor(loss))
    module.weight.grad = torch.tensor([0.0, gradient])
    alarm.on_before_optimizer_step(trainer, module)
    return alarm, module


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_no_number_stops_before_the_step_and_the_batch_is_kept(odd, what, tmp_path):
    with pytest.raises(TrainingError, match=f"step 4: the {what} is not a finite number") as told:
        run_alarm(tmp_path, **{what: odd})
    assert str(tmp_path / "nonfinite" / "step-00000003" / "batch.safetensors") in str(told.value)
    assert f"medssl replay {tmp_path}" in told.value.hint
    offence, batch, _ = load_offence(tmp_path)
    assert (offence.what, offence.step, offence.batch_index) == (what, 3, 7)
    assert (offence.seed, offence.progress) == (5, 0.3)
    assert torch.equal(batch.views_BCIJK[0], BATCH.views_BCIJK[0])
    assert torch.equal(batch.geometry["place"], BATCH.geometry["place"])


def test_finite_numbers_pass_and_so_do_infinite_gradients_of_a_scaled_loss(tmp_path):
    run_alarm(tmp_path)
    run_alarm(tmp_path, gradient=float("inf"), precision="16-mixed")
    assert not list(tmp_path.iterdir())
    with pytest.raises(TrainingError, match="the loss"):
        run_alarm(tmp_path, loss=float("nan"), precision="16-mixed")


def test_a_check_that_is_still_under_way_is_read_before_a_checkpoint(tmp_path, monkeypatch):
    """As on a GPU, where up to two checks, one batch's, are left unread."""
    read = NonFiniteAlarm._read
    monkeypatch.setattr(NonFiniteAlarm, "_read", lambda *_, left: None)
    alarm, module = run_alarm(tmp_path, gradient=float("nan"))
    monkeypatch.undo()
    read(alarm, module, left=2)
    assert not list(tmp_path.iterdir())
    with pytest.raises(TrainingError, match="step 4: the gradient"):
        alarm.on_save_checkpoint(FakeTrainer(), module, {})
