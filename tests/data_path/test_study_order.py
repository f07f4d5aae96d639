from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medssl.data.study_order import StudyOrder


def batches(order, epoch=0):
    first = epoch * order.epoch_samples
    studies = [order.study_of(first + n) for n in range(order.epoch_samples)]
    size = order.batch_size
    return [studies[n : n + size] for n in range(0, len(studies), size)]


@given(
    st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=40),
    st.integers(1, 8),
    st.integers(0, 8),
)
def test_every_epoch_is_whole_batches_that_show_no_study_twice(studies, size, most):
    texts, normal = zip(*studies, strict=True)
    size = min(size, len(texts))
    order = StudyOrder(texts, normal, batch_size=size, most_normal=most, seed=1)
    for epoch in range(2):
        shown = [study for batch in batches(order, epoch) for study in batch]
        assert len(shown) == len(set(shown)) == order.epoch_samples >= size
        others = {study for study, is_normal in enumerate(normal) if not is_normal}
        assert len(others - set(shown)) < size


def test_no_batch_has_equal_texts_or_many_normal_reports_where_that_can_be_avoided():
    texts = [0] * 8 + list(range(1, 57))  # eight are alike, among sixteen that find nothing
    normal = [True] * 16 + [False] * 48
    order = StudyOrder(texts, normal, batch_size=8, most_normal=2, seed=0)
    for batch in batches(order):
        assert sum(normal[study] for study in batch) <= 2
        assert max(Counter(texts[study] for study in batch).values()) == 1


def test_an_epoch_leaves_out_normal_studies_before_a_batch_has_too_many():
    order = StudyOrder(range(20), [True] * 14 + [False] * 6, batch_size=5, most_normal=2, seed=0)
    assert [sum(order.normal[study] for study in batch) for batch in batches(order)] == [2, 2]
    shown = {study for epoch in range(40) for batch in batches(order, epoch) for study in batch}
    assert shown == set(range(20))


def test_where_nearly_all_find_nothing_they_are_shown():
    order = StudyOrder(range(9), [True] * 8 + [False], batch_size=4, most_normal=1, seed=0)
    assert len(batches(order)) == 2


def test_epochs_differ_and_seeds_do():
    def order(seed):
        return StudyOrder(range(30), [False] * 30, batch_size=5, most_normal=0, seed=seed)

    assert batches(order(0)) != batches(order(0), epoch=1)
    assert batches(order(0)) != batches(order(1))
    assert batches(order(0), epoch=3) == batches(order(0), epoch=3)


def test_a_batch_larger_than_the_set_is_refused():
    with pytest.raises(ValueError, match="a batch of 5 of 2 studies"):
        StudyOrder([0, 1], [False] * 2, batch_size=5, most_normal=1, seed=0)
