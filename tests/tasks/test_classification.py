import math

import numpy as np
import pytest
import torch

from medssl.errors import InputError
from medssl.tasks.classification import UNKNOWN, Classification

FINDINGS = {"a": ("0", "1"), "b": ("0", "1"), "c": ("1",)}


def one_column(**options):
    return Classification.Config(columns=("kind",), **options)


def test_classes_are_the_values_of_one_column():
    config = one_column()
    assert config.labels_of({"kind": ("ct", "mr", "pet")}) == ("ct", "mr", "pet")
    task = config.build(labels=("ct", "mr", "pet"))
    assert task.target_of({"kind": "mr"}).item() == 1
    assert task.target_of({"kind": ""}).item() == UNKNOWN
    with pytest.raises(InputError, match="nothing to tell apart"):
        config.labels_of({"kind": ("ct",)})


def test_several_columns_are_findings_of_their_own():
    config = Classification.Config(columns=("a", "b", "c"))
    task = config.build(labels=config.labels_of(FINDINGS))
    assert task.target_of({"a": "1", "b": "0", "c": ""}).tolist()[:2] == [1.0, 0.0]
    assert math.isnan(task.target_of({"a": "1", "b": "0", "c": ""})[2])
    with pytest.raises(InputError, match="1 value\\(s\\) beside 0 and 1"):
        config.labels_of(FINDINGS | {"b": ("0", "maybe")})


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_equals_its_slow_twin_and_unknown_classes_cost_nothing(smoothing):
    rng = np.random.default_rng(0)
    logits, target = rng.normal(size=(5, 3)), np.array([0, 2, UNKNOWN, 1, 2])
    terms = []
    for row, wanted in zip(logits, target, strict=True):
        if wanted == UNKNOWN:
            continue
        log_p = row - math.log(sum(math.exp(x) for x in row))
        spread = [smoothing / 3 + (1 - smoothing) * (n == wanted) for n in range(3)]
        terms.append(-sum(share * value for share, value in zip(spread, log_p, strict=True)))
    task = one_column(label_smoothing=smoothing).build(labels=("x", "y", "z"))
    found = task.loss(torch.from_numpy(logits), torch.from_numpy(target))
    assert found.item() == pytest.approx(sum(terms) / 4, abs=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_findings_cost_their_own_entropy_where_they_are_known(smoothing):
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(4, 2))
    target = np.array([[1, 0], [np.nan, 1], [0, np.nan], [1, 1]])
    terms = []
    for n in range(4):
        for c in range(2):
            if not math.isnan(target[n, c]):
                t = target[n, c] * (1 - smoothing) + smoothing / 2
                p = 1 / (1 + math.exp(-logits[n, c]))
                terms.append(-t * math.log(p) - (1 - t) * math.log(1 - p))
    config = Classification.Config(columns=("a", "b"), label_smoothing=smoothing)
    found = config.build(labels=("a", "b")).loss(torch.from_numpy(logits), torch.from_numpy(target))
    assert found.item() == pytest.approx(sum(terms) / len(terms), abs=1e-12)


def test_a_batch_without_a_known_target_has_a_loss_of_zero_and_no_gradient():
    logits = torch.randn(2, 3, requires_grad=True)
    task = one_column().build(labels=("x", "y", "z"))
    loss = task.loss(logits, torch.tensor([UNKNOWN, UNKNOWN]))
    loss.backward()
    assert loss.item() == 0
    assert torch.count_nonzero(logits.grad) == 0


def test_a_column_is_named_once():
    with pytest.raises(ValueError, match="names a more than once"):
        Classification.Config(columns=("a", "a"))


def test_classes_are_drawn_equally_only_where_they_exclude_each_other():
    assert one_column().build(labels=("x", "y")).draws_classes_equally
    assert not one_column(balanced=False).build(labels=("x", "y")).draws_classes_equally
    several = Classification.Config(columns=("a", "b")).build(labels=("a", "b"))
    assert not several.draws_classes_equally
