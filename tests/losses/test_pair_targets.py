"""What pairs of a batch are, beside pair-by-pair rules written as a person would say them."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.errors import InputError
from medssl.losses.pair_targets import (
    FalseNegativePolicy,
    PairTargets,
    codes,
    false_negative_rate,
    label_overlap,
    pair_targets,
)

KINDS = ("positive", "ignore", "negative")
OFF = FalseNegativePolicy(same_study="negative", same_text="negative", both_normal="negative")


def slow_overlap(a, b):
    """Findings of both over findings of either, as sets."""
    first, second = ({f for f, value in enumerate(row) if value == 1} for row in (a, b))
    return len(first & second) / len(first | second) if first | second else 0.0


def slow_targets(policy, study, text, normal, label):
    """One pair after the other."""
    weight, ignored = {}, {}
    for i, j in itertools.product(range(len(study)), repeat=2):
        reasons = [policy.same_study] * (study[i] == study[j])
        reasons += [policy.same_text] * (text[i] == text[j])
        reasons += [policy.both_normal] * (normal[i] and normal[j])
        overlap = slow_overlap(label[i], label[j])
        shared = policy.label_overlap if overlap >= policy.least_overlap else "off"
        positive = i == j or "positive" in reasons
        ignored[i, j] = not positive and ("ignore" in reasons or shared == "ignore")
        soft = overlap if shared == "soft" else 0.0
        weight[i, j] = 1.0 if positive else 0.0 if ignored[i, j] else soft
    return weight, ignored


@st.composite
def batches(draw):
    rows = draw(st.integers(1, 6))

    def column(values):
        return draw(st.lists(values, min_size=rows, max_size=rows))

    findings = st.lists(st.sampled_from([1.0, 0.0, -1.0, float("nan")]), min_size=3, max_size=3)
    few = st.integers(0, 2)
    return column(few), column(few), column(st.booleans()), column(findings)


@settings(max_examples=60, deadline=None)
@given(
    batches(),
    st.tuples(*[st.sampled_from(KINDS)] * 3),
    st.sampled_from(["soft", "ignore", "off"]),
    st.sampled_from([0.3, 0.5, 1.0]),
)
def test_targets_are_those_of_pair_by_pair_rules(batch, kinds, overlap, least):
    policy = FalseNegativePolicy(
        same_study=kinds[0],
        same_text=kinds[1],
        both_normal=kinds[2],
        label_overlap=overlap,
        least_overlap=least,
    )
    found = pair_targets(policy, *(torch.tensor(part) for part in batch))
    weight, ignored = slow_targets(policy, *batch)
    for pair in weight:
        assert float(found.weight_BB[pair]) == pytest.approx(weight[pair])
        assert bool(found.ignored_BB[pair]) is ignored[pair]
    assert not (found.weight_BB > 0)[found.ignored_BB].any()
    assert (found.weight_BB.diagonal() == 1).all()
    for part in found:
        assert torch.equal(part, part.mT)


def test_without_a_policy_only_the_own_report_is_positive():
    same = torch.zeros(3, dtype=torch.long)
    found = pair_targets(OFF, same, same, torch.ones(3, dtype=torch.bool))
    assert torch.equal(found.weight_BB, torch.eye(3))
    assert not found.ignored_BB.any()


def test_the_default_pulls_equal_texts_together_and_leaves_normal_studies_alone():
    study, text = torch.arange(4), torch.tensor([7, 7, 8, 9])
    normal = torch.tensor([True, True, True, False])
    found = pair_targets(FalseNegativePolicy(), study, text, normal)
    expected = torch.eye(4)
    expected[0, 1] = expected[1, 0] = 1
    assert torch.equal(found.weight_BB, expected)
    assert found.ignored_BB.nonzero().tolist() == [[0, 2], [1, 2], [2, 0], [2, 1]]
    assert float(false_negative_rate(found)) == pytest.approx(3 / 4)


def test_targets_follow_the_order_of_the_rows():
    study, text = torch.tensor([0, 0, 1, 2, 3]), torch.tensor([1, 2, 2, 3, 4])
    normal, order = torch.tensor([True, False, False, True, True]), torch.tensor([3, 1, 4, 0, 2])
    policy = FalseNegativePolicy()
    first = pair_targets(policy, study, text, normal)
    moved = pair_targets(policy, study[order], text[order], normal[order])
    for part, other in zip(first, moved, strict=True):
        assert torch.equal(part[order][:, order], other)


def test_organs_are_worked_on_alone():
    generator = torch.Generator().manual_seed(0)
    study, text = torch.arange(5).expand(2, 5), torch.randint(0, 2, (2, 5), generator=generator)
    normal = torch.rand(2, 5, generator=generator) > 0.5
    policy = FalseNegativePolicy()
    both = pair_targets(policy, study, text, normal)
    for organ in range(2):
        alone = pair_targets(policy, study[organ], text[organ], normal[organ])
        assert torch.equal(both.weight_BB[organ], alone.weight_BB)
        assert torch.equal(both.ignored_BB[organ], alone.ignored_BB)


def test_two_normal_reports_share_no_finding():
    assert torch.equal(label_overlap(torch.zeros(2, 4)), torch.zeros(2, 2))


def test_rate_of_known_arrangements():
    nothing = torch.zeros(4, 4, dtype=torch.bool)
    assert false_negative_rate(PairTargets(torch.eye(4), nothing)) == 0
    assert false_negative_rate(PairTargets(torch.ones(4, 4), nothing)) == 1
    ignored = nothing.clone()
    ignored[0, 3] = True
    assert false_negative_rate(PairTargets(torch.eye(4), ignored)) == 0.25


def test_codes_are_equal_for_equal_keys_only():
    found = codes(["a", "b", "a", ""])
    assert found.dtype == torch.int64
    assert found[0] == found[2]
    assert len(set(found.tolist())) == 3


def test_a_policy_on_labels_needs_labels():
    row = torch.arange(2)
    with pytest.raises(InputError, match="no labels"):
        pair_targets(FalseNegativePolicy(label_overlap="soft"), row, row, row > 5)
