"""Every strategy keeps the promises of medssl.training.strategies.base, on every encoder."""

import copy
import itertools

import pytest
import torch

from medssl.config.choice import available, find
from medssl.errors import ConfigError
from medssl.models.linear_segmenter import linear_segmenter
from medssl.training.optimizer import OptimizerConfig
from medssl.training.schedule import ScheduleConfig

STEPS, SCHEDULE = 5, ScheduleConfig(steps=5, warmup_steps=1)
STRATEGIES = available("medssl.training.strategies")
ENCODERS = {
    name: find("medssl.models.encoders", name).Config.tiny()
    for name in available("medssl.models.encoders")
} | {"segresnet_batch": find("medssl.models.encoders", "segresnet").Config(
    width=4, blocks=(1, 1), norm="batch"
)}  # fmt: skip
OPTIONS = {"sawtooth": {"decoder_share": 0.6}, "lora": {"rank": 2, "dropout": 0.1}}
ATTENTION = ("swin_unetr", "vit")
PAIRS = [
    (strategy, encoder)
    for strategy, encoder in itertools.product(STRATEGIES, ENCODERS)
    if strategy != "lora" or encoder in ATTENTION
]
every_pair = pytest.mark.parametrize("strategy_and_encoder", PAIRS, ids="-".join)


class Training:
    """A strategy, a network and an optimiser, in a loop as plain as the contract's."""

    def __init__(self, strategy, encoder, *, rule="adamw"):
        config = find("medssl.training.strategies", strategy).Config
        self.strategy = config(**OPTIONS.get(strategy, {})).build()
        torch.manual_seed(0)
        self.encoder = ENCODERS[encoder].build()
        build = linear_segmenter if self.strategy.without_decoder else self.encoder_segmenter
        self.network, _ = build(self.encoder, 2)
        self.plain = copy.deepcopy(self.network)
        self.strategy.prepare(self.network, self.encoder, seed=3)
        self.optimizer = OptimizerConfig(name=rule, lr=0.01).build(self.network, self.encoder)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: self.strategy.factor(step, SCHEDULE)
        )

    @staticmethod
    def encoder_segmenter(encoder, out_channels):
        return encoder.segmenter(out_channels)

    def run(self, first, last):
        for step in range(first, last):
            self.network.train()  # as validation leaves it
            torch.manual_seed(step)
            self.strategy.before_step(self.encoder, step, STEPS)
            x_BCIJK = self.volume(1)
            self.optimizer.zero_grad()
            self.network(x_BCIJK).square().mean().backward()
            self.optimizer.step()
            self.scheduler.step()
        return self

    def volume(self, batch):
        encoder = self.encoder
        cells = (2, 2, 2) if max(encoder.strides) < 32 else (2, 1, 1)
        shape = [max(encoder.strides) * n for n in cells[: encoder.dims]]
        return torch.randn(batch, encoder.config.in_channels, *shape) + 1

    def state(self):
        parts = self.network, self.optimizer, self.scheduler
        return copy.deepcopy([part.state_dict() for part in parts])

    def resume(self, state):
        for part, saved in zip((self.network, self.optimizer, self.scheduler), state, strict=True):
            part.load_state_dict(saved)
        return self


def moved(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


def trained_from(training, first, last):
    before = copy.deepcopy(training.network.state_dict())
    training.run(first, last)
    return moved(before, training.network.state_dict())


def names_of(training):
    """Tensors of the network that are the encoder's, and those that are not."""
    theirs = {value.data_ptr() for value in training.encoder.state_dict().values()}
    state = training.network.state_dict()
    inside = {name for name, value in state.items() if value.data_ptr() in theirs}
    return inside, set(state) - inside


@every_pair
def test_what_is_frozen_stays_to_the_last_bit_and_what_trains_moves(strategy_and_encoder):
    training = Training(*strategy_and_encoder)
    inside, outside = names_of(training)
    changed = trained_from(training, 0, 3)
    weights = dict(training.network.named_parameters())
    assert changed & outside
    assert {n for n in weights if n in outside and weights[n].requires_grad} <= changed | {
        n for n, w in weights.items() if w.grad is None or not w.grad.any()
    }
    match training.strategy.config.name:
        case "full":
            assert changed & inside
        case "lora":
            assert changed & inside == {n for n in inside if "low_rank" in n}
        case _:  # also the first tooth, of three steps here
            assert not changed & inside


@every_pair
def test_a_training_that_goes_on_ends_with_the_same_bits(strategy_and_encoder):
    whole = Training(*strategy_and_encoder)
    state = whole.run(0, 2).state()
    whole.run(2, 4)
    again = Training(*strategy_and_encoder).resume(state).run(2, 4)
    assert not moved(whole.network.state_dict(), again.network.state_dict())


@every_pair
def test_a_finished_network_is_like_one_that_was_never_prepared(strategy_and_encoder):
    training = Training(*strategy_and_encoder).run(0, 2)
    x_BCIJK = training.volume(1)
    with torch.no_grad():
        before = training.network.eval()(x_BCIJK)
        training.strategy.finished(training.network, training.encoder)
        training.plain.load_state_dict(training.network.state_dict(), strict=True)
        after, plain = training.network(x_BCIJK), training.plain.eval()(x_BCIJK)
    assert list(training.network.state_dict()) == list(training.plain.state_dict())
    assert [type(m) for m in training.network.modules()] == [
        type(m) for m in training.plain.modules()
    ]
    assert all(weight.requires_grad for weight in training.network.parameters())
    assert torch.equal(after, plain)
    torch.testing.assert_close(before, after, rtol=1e-5, atol=1e-5)


@every_pair
def test_to_prepare_twice_is_to_prepare_once(strategy_and_encoder):
    training = Training(*strategy_and_encoder)
    before = {n: (p.requires_grad, p.clone()) for n, p in training.network.named_parameters()}
    training.strategy.prepare(training.network, training.encoder, seed=4)
    after = {n: (p.requires_grad, p.clone()) for n, p in training.network.named_parameters()}
    assert before.keys() == after.keys()
    assert all(before[n][0] == after[n][0] for n in before)
    assert all(torch.equal(before[n][1], after[n][1]) for n in before)


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "lora"])
def test_the_strategy_says_whether_it_trains_the_encoder(strategy):
    training = Training(strategy, "segresnet_batch", rule="sgd")
    inside, _ = names_of(training)
    changed = trained_from(training, 0, STEPS)
    assert bool(changed & inside) == training.strategy.trains_encoder
    assert not changed & inside or any("running" in name for name in changed & inside)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 100])
def test_rates_are_shares_of_the_peak_and_reach_it_or_nearly(strategy, steps):
    built = find("medssl.training.strategies", strategy).Config().build()
    schedule = ScheduleConfig(steps=steps, warmup_steps=min(5, steps - 1))
    rates = [built.factor(step, schedule) for step in range(steps + 1)]
    assert all(0 <= rate <= 1 for rate in rates)
    assert max(rates) > 0.8 or steps < 7


@pytest.mark.parametrize("encoder", [name for name in ENCODERS if name not in ATTENTION])
def test_lora_names_the_encoders_it_works_with(encoder):
    with pytest.raises(ConfigError, match="none") as error:
        Training("lora", encoder)
    assert all(name in error.value.hint for name in ATTENTION)
