"""Samples are functions of (seed, index), whatever process makes them."""

import numpy as np
import pytest
import torch

from medssl.data.augment import AugmentConfig
from medssl.data.dataset import CropDataset, DatasetConfig, draw_region_starts
from medssl.data.grid_views import GridViews
from medssl.data.sampling import BatchIndices
from medssl.data.store import CropStore
from medssl.errors import InputError

STILL = AugmentConfig(flip_probability=0, rotate_probability=0, shift_probability=0)
VIEWS = GridViews(grid=(2, 2, 1), crop_voxels=6, random_crops=2)


@pytest.fixture
def store(make_store, noise):
    return make_store(
        {
            "a": noise,
            "b": noise[::-1],
            "c": noise[:, ::-1],
            "held": (noise, {"split": "val"}),
        }
    )


def dataset(store, views=VIEWS, seed=0, **config):
    return CropDataset(store, views, DatasetConfig(**config), samples=24, batch_size=2, seed=seed)


def loader(data, **options):
    return torch.utils.data.DataLoader(data, collate_fn=data.views.collate, **options)


def same(a, b):
    return all((x == y).all() for x, y in zip(a.views_BCIJK, b.views_BCIJK, strict=True)) and all(
        (value == b.geometry[name]).all() for name, value in a.geometry.items()
    )


def test_a_sample_is_the_same_in_any_order_and_another_for_another_seed(store):
    first, again = dataset(store), dataset(CropStore(store.path))
    there = [first[n] for n in range(8)]
    back = [again[n] for n in reversed(range(8))][::-1]
    assert all(same(a, b) for a, b in zip(there, back, strict=True))
    assert not same(there[0], dataset(store, seed=1)[0])
    assert not same(there[0], there[1])


def test_loader_processes_change_nothing_and_a_resumed_one_goes_on(store):
    data = dataset(store)
    data[0]  # an open handle in the parent must not reach the workers
    alone = list(loader(data, batch_sampler=BatchIndices(batch_size=2, total_batches=6)))
    batches = BatchIndices(batch_size=2, total_batches=6, start_batch=2)
    workers = list(loader(data, batch_sampler=batches, num_workers=2))
    assert len(workers) == 4
    assert all(same(a, b) for a, b in zip(alone[2:], workers, strict=True))


def test_only_the_split_is_used(store):
    assert {dataset(store).volume_key(n) for n in range(24)} == {"a", "b", "c"}
    assert {dataset(store, split="val").volume_key(n) for n in range(4)} == {"held"}
    assert sorted(dataset(store, split=None).keys) == ["a", "b", "c", "held"]
    with pytest.raises(InputError, match="no volume in the split 'test'"):
        dataset(store, split="test")


def test_views_are_the_normalised_voxels_of_one_region(store, noise):
    data = dataset(store, views=GridViews(grid=(2, 2, 1), crop_voxels=6, augment=STILL))
    base_KCIJK = data[0].views_BCIJK[1]
    volume_IJK = np.clip((store.read("a", (0, 0, 0), noise.shape) + 1000.0) / 2000, 0, 1)
    flip = {"a": np.s_[:], "b": np.s_[::-1], "c": np.s_[:, ::-1]}[data.volume_key(0)]
    windows = np.lib.stride_tricks.sliding_window_view(volume_IJK[flip], (6, 6, 6))
    found = np.argwhere(np.isclose(windows, base_KCIJK[0, 0], atol=1e-5).all(axis=(3, 4, 5)))
    assert len(found) == 1, "the first base crop is cut from its volume once"
    i, j, k = found[0]
    np.testing.assert_allclose(base_KCIJK[3, 0], windows[i + 6, j + 6, k], atol=1e-5)


def test_a_region_with_body_is_preferred(make_store):
    volume_IJK = np.full((60, 12, 6), -1000, np.int16)
    volume_IJK[:18] = 40
    store = make_store({"mostly-air": volume_IJK})

    def body_share(**config):
        data = dataset(store, views=GridViews(grid=(2, 2, 1), crop_voxels=6), **config)
        return np.mean([(data[n].views_BCIJK[1] > 0.4).mean() for n in range(24)])

    assert body_share(candidates=8, min_foreground=0.5) > 2 * body_share(candidates=1)


def test_an_empty_volume_still_gives_a_sample(make_store):
    store = make_store({"air": np.full((20, 20, 10), -1000, np.int16)})
    assert (dataset(store, views=GridViews(grid=(2, 2, 1), crop_voxels=6, augment=STILL))[0]
            .views_BCIJK[0] == 0).all()  # fmt: skip


def test_a_volume_smaller_than_the_region_is_centred(make_store):
    store = make_store({"small": np.full((6, 20, 3), 1000, np.int16)})
    data = dataset(store, views=GridViews(grid=(2, 2, 1), crop_voxels=6, augment=STILL))
    base_KIJK = data[0].views_BCIJK[1][:, 0]
    rows_I = np.concatenate([base_KIJK[0], base_KIJK[2]])[:, 0, 2]
    assert rows_I.tolist() == [0] * 3 + [1] * 6 + [0] * 3
    assert base_KIJK[0][5, 0].tolist() == [0, 0, 1, 1, 1, 0]


def test_regions_lie_inside_the_volume_wherever_they_can():
    rng = np.random.default_rng(0)
    starts_N3 = draw_region_starts(rng, 2000, (10, 5, 4), (4, 5, 9))
    assert set(starts_N3[:, 0]) == set(range(7))
    assert set(starts_N3[:, 1]) == {0}
    assert set(starts_N3[:, 2]) == {-3}
