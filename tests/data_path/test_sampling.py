"""Order and randomness as functions of (seed, index)."""

from collections import Counter
from itertools import chain

import numpy as np
import pytest

from medssl.data.sampling import BatchIndices, Stream, VolumeOrder, generator


def batches(order, count):
    size = order.batch_size
    return [[order.volume_of(b * size + n) for n in range(size)] for b in range(count)]


@pytest.mark.parametrize(("volumes", "batch"), [(5, 5), (7, 3), (27, 4), (1, 1), (10, 2)])
def test_a_batch_never_holds_a_volume_twice_when_it_can_be_avoided(volumes, batch):
    order = VolumeOrder(volumes, batch, seed=0)
    assert all(len(set(found)) == batch for found in batches(order, 60))


@pytest.mark.parametrize(("volumes", "batch"), [(3, 7), (1, 4), (2, 4)])
def test_a_batch_larger_than_the_store_repeats_volumes_evenly(volumes, batch):
    for found in batches(VolumeOrder(volumes, batch, seed=0), 20):
        counts = [Counter(found)[v] for v in range(volumes)]
        assert max(counts) - min(counts) <= 1


def test_an_epoch_visits_every_volume_once_when_batches_fill_it():
    order = VolumeOrder(12, 4, seed=3)
    epochs = [[order.volume_of(e * 12 + n) for n in range(12)] for e in range(3)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_volumes_left_over_by_one_epoch_come_in_others():
    order = VolumeOrder(7, 4, seed=0)
    counts = Counter(order.volume_of(n) for n in range(4 * 700))
    assert max(counts.values()) < 1.2 * min(counts.values())


def test_the_order_does_not_depend_on_what_was_asked_before():
    forwards, backwards = VolumeOrder(9, 2, seed=5), VolumeOrder(9, 2, seed=5)
    there = [forwards.volume_of(n) for n in range(40)]
    back = [backwards.volume_of(n) for n in reversed(range(40))]
    assert there == back[::-1]
    assert there != [VolumeOrder(9, 2, seed=6).volume_of(n) for n in range(40)]


def test_seeds_indices_and_streams_are_independent():
    def first(seed, index, stream):
        return generator(seed, index, stream).integers(0, 2**63, 4).tolist()

    cases = [(s, i, stream) for s in (0, 1) for i in (0, 1, 2**40) for stream in Stream]
    drawn = [first(*case) for case in cases]
    assert len({number for numbers in drawn for number in numbers}) == 4 * len(cases)
    assert drawn == [first(*case) for case in cases]


def test_neighbouring_samples_are_uncorrelated():
    uniform = np.array([generator(0, n, Stream.SAMPLE).random(50) for n in range(200)])
    assert abs(uniform.mean() - 0.5) < 0.02
    assert abs(np.corrcoef(uniform[:-1].ravel(), uniform[1:].ravel())[0, 1]) < 0.05


def test_batches_go_on_from_any_start():
    whole = list(BatchIndices(batch_size=3, total_batches=6))
    assert whole[0] == [0, 1, 2]
    rest = BatchIndices(batch_size=3, total_batches=6, start_batch=4)
    assert list(rest) == whole[4:]
    assert not hasattr(rest, "__len__")
    assert list(BatchIndices(batch_size=3, total_batches=6, start_batch=9)) == []


@pytest.mark.parametrize("parts", [1, 2, 3, 6])
def test_the_parts_of_all_processes_in_order_are_the_batches_of_one(parts):
    whole = list(BatchIndices(batch_size=6, total_batches=7, start_batch=2))
    of_each = [
        list(BatchIndices(batch_size=6, total_batches=7, start_batch=2, part=part, parts=parts))
        for part in range(parts)
    ]
    assert [list(chain(*together)) for together in zip(*of_each, strict=True)] == whole


def test_a_batch_that_cannot_be_divided_is_refused():
    with pytest.raises(ValueError, match="4 processes cannot share batches of 6"):
        BatchIndices(batch_size=6, total_batches=1, parts=4)


def test_an_order_over_nothing_is_a_bug_and_says_so():
    with pytest.raises(ValueError, match="need volumes and a batch size, got 0 and 2"):
        VolumeOrder(0, 2, seed=0)
