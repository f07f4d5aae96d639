"""Nothing leaks, shares are met, and no order of files changes a split."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from medssl.curation.splits import (
    SPLITS,
    SplitConfig,
    assert_no_leak,
    assign_splits,
    group_volumes,
)


@st.composite
def archives(draw):
    """Volumes with patients, modalities, edges, and some that are not kept."""
    count = draw(st.integers(1, 40))
    volumes = [f"v{n:02d}" for n in range(count)]
    patient = st.sampled_from(["", *(f"p{n}" for n in range(draw(st.integers(1, 20))))])
    patient_of = {volume: draw(patient) for volume in volumes}
    item = st.sampled_from(volumes)
    edges = draw(st.lists(st.tuples(item, item), max_size=8))
    kept = draw(st.lists(item, min_size=1, unique=True))
    modality_of = {volume: (draw(st.sampled_from(["CT", "MR"])),) for volume in kept}
    return patient_of, edges, modality_of


configs = st.builds(
    SplitConfig, val=st.sampled_from([0, 0.1, 0.2, 0.3]), test=st.sampled_from([0, 0.15, 0.25])
)


@given(archives(), configs)
def test_no_patient_and_no_edge_crosses(archive, config):
    patient_of, edges, modality_of = archive
    group_of = group_volumes(patient_of, edges)
    split_of = assign_splits(group_of, modality_of, config)
    assert split_of.keys() == modality_of.keys()
    assert_no_leak(split_of, patient_of, edges)


@given(archives(), configs)
def test_volumes_joined_through_a_dropped_one_stay_together(archive, config):
    """Joined is whatever a walk along patients and edges reaches, kept or not."""
    patient_of, edges, _ = archive
    group_of = group_volumes(patient_of, edges)
    reached = {volume: {volume} for volume in patient_of}
    links = [*edges]
    for a in patient_of:
        links += [(a, b) for b in patient_of if patient_of[a] and patient_of[a] == patient_of[b]]
    for _ in patient_of:
        for a, b in links:
            both = reached[a] | reached[b]
            for volume in both:
                reached[volume] = both
    for a, others in reached.items():
        assert {b for b in patient_of if group_of[b] == group_of[a]} == others


@given(archives(), configs)
def test_shares_are_met_within_the_largest_group(archive, config):
    patient_of, edges, modality_of = archive
    group_of = group_volumes(patient_of, edges)
    split_of = assign_splits(group_of, modality_of, config)
    largest = max(Counter(group_of[volume] for volume in modality_of).values())
    counts = Counter(split_of.values())
    for split, share in config.shares().items():
        assert abs(counts[split] - share * len(modality_of)) <= 4 / 3 * largest + 1e-6
        if share == 0:
            assert counts[split] == 0


@given(archives(), configs, st.randoms(use_true_random=False))
def test_no_order_matters(archive, config, random):
    patient_of, edges, modality_of = archive

    def shuffled(items):
        items = list(items)
        random.shuffle(items)
        return items

    group_of = group_volumes(patient_of, edges)
    turned = [pair[::-1] for pair in shuffled(edges)]
    assert group_volumes(dict(shuffled(patient_of.items())), turned) == group_of
    split_of = assign_splits(group_of, modality_of, config)
    again = assign_splits(
        dict(shuffled(group_of.items())), dict(shuffled(modality_of.items())), config
    )
    assert again == split_of


@pytest.mark.parametrize("seed", range(20))
def test_fifteen_patients_get_their_shares_in_both_modalities(seed):
    modality_of = {f"v{n}": ("CT",) if n < 5 else ("MR",) for n in range(15)}
    group_of = {volume: f"p{volume}" for volume in modality_of}
    split_of = assign_splits(group_of, modality_of, SplitConfig(val=0.2, test=0.2, seed=seed))
    assert Counter(split_of.values()) == {"train": 9, "val": 3, "test": 3}
    for split in SPLITS:
        assert {modality_of[v] for v, s in split_of.items() if s == split} == {("CT",), ("MR",)}


def test_another_seed_draws_other_splits():
    modality_of = {f"v{n}": ("CT",) for n in range(30)}
    group_of = {volume: volume for volume in modality_of}
    draws = {
        tuple(assign_splits(group_of, modality_of, SplitConfig(seed=seed)).values())
        for seed in range(5)
    }
    assert len(draws) == 5


@pytest.mark.parametrize(
    ("patients", "edges", "message"),
    [
        ({"a": "p", "b": "p"}, [], "patient p is in"),
        ({"a": "p", "b": "q"}, [("a", "b")], "resembles"),
    ],
)
def test_a_leak_is_found_whoever_made_it(patients, edges, message):
    with pytest.raises(AssertionError, match=message):
        assert_no_leak({"a": "train", "b": "test"}, patients, edges)


def test_something_must_be_left_to_train_on():
    with pytest.raises(ValidationError, match="nothing is left to train on"):
        SplitConfig(val=0.5, test=0.5)


@given(archives(), configs)
def test_shares_are_met_within_every_stratum(archive, config):
    """On every stretch of the line: in a modality, and on each scanner within it."""
    patient_of, edges, modality_of = archive
    group_of = group_volumes(patient_of, edges)
    first_of: dict[str, str] = {}  # a group of one scanner, so that strata do not mix
    for volume in sorted(modality_of):
        first_of.setdefault(group_of[volume], volume)
    strata = {
        v: (*modality_of[first_of[group_of[v]]], first_of[group_of[v]][-1]) for v in modality_of
    }
    split_of = assign_splits(group_of, strata, config)
    largest = max(Counter(group_of[volume] for volume in modality_of).values())
    for level in (1, 2):
        for stratum in {words[:level] for words in strata.values()}:
            inside = [volume for volume, words in strata.items() if words[:level] == stratum]
            counts = Counter(split_of[volume] for volume in inside)
            for split, share in config.shares().items():
                assert abs(counts[split] - share * len(inside)) <= 8 / 3 * largest + 1e-6


@given(archives(), configs, st.data())
def test_what_is_settled_stays_and_the_rest_makes_up_for_it(archive, config, data):
    patient_of, edges, modality_of = archive
    group_of = group_volumes(patient_of, edges)
    groups = sorted({group_of[volume] for volume in modality_of})
    chosen = data.draw(st.dictionaries(st.sampled_from(groups), st.sampled_from(SPLITS)))
    split_of = assign_splits(group_of, modality_of, config, chosen)
    for volume, split in split_of.items():
        assert split == chosen.get(group_of[volume], split)
    assert_no_leak(split_of, patient_of, edges)
    assert assign_splits(group_of, modality_of, config, {}) == assign_splits(
        group_of, modality_of, config
    )
