"""Threads, processes and the training itself make the same batches, in the same order."""

import threading
import time
from itertools import islice

import pytest
import torch
from torch.utils.data import Dataset

from medssl.data.dataset import DatasetConfig
from medssl.data.grid_views import GridViews
from medssl.data.store import CropStore
from medssl.data.views import Batch
from medssl.training.launch import Place
from medssl.training.loaders import LoaderConfig, PretrainLoaders
from medssl.training.threaded import ThreadedBatches
from tests.training.stores import write_store

VIEWS = GridViews(grid=(2, 1, 1), crop_voxels=6, random_crops=2)


def batches(store, first=0, **loader):
    loaders = PretrainLoaders(
        CropStore(store),
        VIEWS,
        DatasetConfig(split=None),
        LoaderConfig(volumes_per_batch=2, **loader),
        batches=range(first, 9),
        seed=3,
        place=Place(rank=0, world=1, nodes=1),
    )
    return list(loaders.training())


def assert_same(some, others):
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        for mine, theirs in zip(one.views_BCIJK, other.views_BCIJK, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
        for name, value in one.geometry.items():
            torch.testing.assert_close(value, other.geometry[name], rtol=0, atol=0)


@pytest.mark.parametrize(("kind", "workers"), [("thread", 1), ("thread", 3), ("process", 1)])
def test_whoever_makes_batches_they_are_the_same(tmp_path, kind, workers):
    store = write_store(tmp_path / "store")
    alone = batches(store, workers=0)
    assert_same(alone, batches(store, workers=workers, worker_kind=kind))
    assert_same(alone[4:], batches(store, first=4, workers=workers, worker_kind=kind))


class Slow(Dataset[int]):
    """Samples of which every third takes longer, and one cannot be made."""

    def __init__(self, broken=None):
        self.broken, self.made = broken, []

    def __getitem__(self, index):
        time.sleep(0.02 if index % 3 == 0 else 0)
        if index == self.broken:
            raise ValueError(f"sample {index}")
        self.made.append(index)
        return index


def threaded(samples, count):
    each = [[2 * n, 2 * n + 1] for n in range(count)]
    return ThreadedBatches(samples, each, lambda of: Batch([torch.tensor(of)], {}), threads=3)


def test_the_order_is_kept_and_no_more_are_made_ahead_than_may_wait():
    samples = Slow()
    taken = [batch.views_BCIJK[0].tolist() for batch in islice(threaded(samples, 100), 5)]
    assert taken == [[2 * n, 2 * n + 1] for n in range(5)]
    assert len(samples.made) <= 2 * (5 + 6)


def test_an_error_comes_where_its_batch_would_have_come():
    given = iter(threaded(Slow(broken=7), 9))
    assert [batch.views_BCIJK[0][0].item() for batch in islice(given, 3)] == [0, 2, 4]
    with pytest.raises(ValueError, match="sample 7"):
        next(given)


def test_no_thread_is_left_when_nobody_asks_any_more():
    before = threading.active_count()
    given = iter(threaded(Slow(), 1000))
    next(given)
    given.close()
    assert threading.active_count() == before
