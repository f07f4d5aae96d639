import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medssl.evaluation.paired.retrieval import (
    average_precision_at,
    first_hit,
    label_overlap,
    mean_relevance,
    ranking_scores,
    same_words,
)

SIZE = 5
FEW = arrays(np.float64, SIZE, elements=st.sampled_from([-np.inf, 0.0, 0.5, 1.0]))
YES = arrays(np.bool_, SIZE)


def orders(similarity):
    """Yield every order that descends, equal items in all their orders."""
    for order in itertools.permutations(range(len(similarity))):
        if all(similarity[a] >= similarity[b] for a, b in itertools.pairwise(order)):
            yield [item for item in order if similarity[item] > -math.inf]


def mean_over_orders(similarity, score):
    values = [score(order) for order in orders(similarity)]
    return sum(values) / len(values)


@given(arrays(np.float64, SIZE, elements=st.sampled_from([0.0, 0.5, 1.0])), YES.filter(np.any))
def test_scores_are_means_over_all_orders_of_equal_items(similarity, relevant):
    def rank(order):
        return 1 + next(place for place, item in enumerate(order) if relevant[item])

    found = ranking_scores(similarity[None], relevant[None], ks=(1, 2, 4, 9), percent=(30,))
    assert "recall@9" not in found
    assert found["rank"][0] == pytest.approx(mean_over_orders(similarity, rank))
    reciprocal = mean_over_orders(similarity, lambda order: 1 / rank(order))
    assert found["reciprocal_rank"][0] == pytest.approx(reciprocal)
    for name, k in {"recall@1": 1, "recall@2": 2, "recall@4": 4, "recall@30%": 2}.items():
        within = mean_over_orders(similarity, lambda order, k=k: rank(order) <= k)
        assert found[name][0] == pytest.approx(within), name


@given(FEW, YES, st.integers(1, SIZE))
def test_average_precision_is_a_mean_over_all_orders_of_equal_items(similarity, relevant, k):
    reachable = int((relevant & (similarity > -np.inf)).sum())

    def score(order):
        hits, total = 0, 0.0
        for place, item in enumerate(order[:k], start=1):
            hits += relevant[item]
            total += relevant[item] * hits / place
        return total / min(k, reachable)

    found = average_precision_at(similarity[None], relevant[None], k)[0]
    if reachable:
        assert found == pytest.approx(mean_over_orders(similarity, score))
    else:
        assert math.isnan(found)


@given(FEW, arrays(np.float64, SIZE, elements=st.sampled_from([0, 0.25, 1])), st.integers(1, SIZE))
def test_mean_relevance_is_a_mean_over_all_orders_of_equal_items(similarity, relevance, k):
    found = mean_relevance(similarity[None], relevance[None], k)[0]
    if (similarity == -np.inf).all():
        assert math.isnan(found)
        return
    expected = mean_over_orders(
        similarity, lambda order: sum(relevance[item] for item in order[:k]) / len(order[:k])
    )
    assert found == pytest.approx(expected)


def test_a_model_that_cannot_tell_anything_apart_finds_what_chance_finds():
    found = ranking_scores(np.zeros((40, 40)), np.eye(40, dtype=bool))
    assert found["recall@1"] == pytest.approx(1 / 40)
    assert found["recall@10"] == pytest.approx(10 / 40)
    assert found["recall@5%"] == pytest.approx(2 / 40)
    assert found["rank"] == pytest.approx(20.5)


def test_a_model_that_knows_everything_finds_everything():
    found = ranking_scores(np.eye(7), np.eye(7, dtype=bool))
    assert all((values == 1).all() for values in found.values())


def test_random_similarities_find_what_chance_finds():
    similarity = np.random.default_rng(0).standard_normal((600, 600))
    found = ranking_scores(similarity, np.eye(600, dtype=bool))
    assert found["recall@50"].mean() == pytest.approx(50 / 600, abs=0.03)


def test_a_query_that_nothing_answers_is_refused():
    with pytest.raises(ValueError, match="something that it should find"):
        first_hit(np.zeros((2, 2)), np.array([[True, False], [False, False]]))


@given(arrays(np.bool_, (4, 3)), arrays(np.bool_, (2, 3)))
def test_overlap_is_what_two_share_of_what_either_has(present, gallery):
    found = label_overlap(present, gallery)
    for a, b in itertools.product(range(4), range(2)):
        first, second = set(np.flatnonzero(present[a])), set(np.flatnonzero(gallery[b]))
        if first | second:
            assert found[a, b] == pytest.approx(len(first & second) / len(first | second))
        else:
            assert math.isnan(found[a, b])


def test_rows_of_one_study_or_one_text_are_the_same():
    studies, texts = ["a", "a", "b", "c"], ["x", "y", "z", "x"]
    same = same_words(studies, texts)
    for a, b in itertools.product(range(4), repeat=2):
        assert same[a, b] == (studies[a] == studies[b] or texts[a] == texts[b])
    np.testing.assert_array_equal(same_words(studies, texts, slice(1, 3)), same[1:3])
