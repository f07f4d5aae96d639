"""Samples are functions of (seed, index), whatever process makes them."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medssl.data.augment import AugmentConfig
from medssl.data.dataset import (
    CropDataset,
    DatasetConfig,
    draw_region_starts,
    draw_weighted_starts,
    first_and_last_start,
)
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


def test_equal_weights_draw_as_no_weights_do():
    starts = draw_weighted_starts(np.random.default_rng(0), 8000, (1.0,) * 12, 5)
    assert np.bincount(starts, minlength=8) / 8000 == pytest.approx(1 / 8, abs=0.015)


def test_a_region_is_drawn_in_proportion_to_what_it_holds():
    weights = (0, 0, 0, 1, 0, 0, 3, 0, 0, 0)
    starts = draw_weighted_starts(np.random.default_rng(0), 20000, weights, 3)
    worth = [sum(weights[s : s + 3]) for s in range(8)]
    expected = [w / sum(worth) for w in worth]
    assert np.bincount(starts, minlength=8) / 20000 == pytest.approx(expected, abs=0.015)
    assert set(starts) == {1, 2, 3, 4, 5, 6}


def test_weights_of_nothing_or_of_a_short_volume_change_nothing():
    rng = np.random.default_rng(0)
    assert set(draw_weighted_starts(rng, 200, (0.0,) * 6, 4)) == {0, 1, 2}
    assert draw_weighted_starts(rng, 2, (1.0, 0.0), 5).tolist() == [-2, -2]
    assert draw_weighted_starts(rng, 2, (1.0, 0.0), 2).tolist() == [0, 0]


def test_samples_follow_the_weights_and_stay_functions_of_their_index(make_store):
    ramp = np.broadcast_to(np.arange(40, dtype=np.int16) * 10, (20, 20, 40)).copy()
    weights = tuple(float(30 <= k < 34) for k in range(40))
    store = make_store({"a": (ramp, {"slice_axis": 2, "slice_weights": weights})})
    views = GridViews(grid=(2, 2, 1), crop_voxels=6, augment=STILL)
    data, again = dataset(store, views=views), dataset(CropStore(store.path), views=views)
    for n in range(12):
        values = np.rint(data[n].views_BCIJK[1] * 2000 - 1000) / 10
        assert values.min() <= 33
        assert values.max() >= 30
        assert same(data[n], again[n])


def test_a_scan_shows_another_of_its_views_every_epoch(make_store, noise):
    store = make_store(
        {
            "a": noise,
            "a2": (noise + 1, {"view_of": "a"}),
            "a3": (noise + 2, {"view_of": "a"}),
            "b": noise[::-1],
            "held": (noise[:, ::-1], {"split": "val"}),
        }
    )
    data = dataset(store)
    assert sorted(data.keys) == ["a", "b"]
    assert sorted(store.views("a")) == ["a", "a2", "a3"]
    epochs = [{data.volume_key(2 * epoch + n) for n in range(2)} for epoch in range(9)]
    assert all("b" in epoch and len(epoch) == 2 for epoch in epochs)
    of_a = [(epoch - {"b"}).pop() for epoch in epochs]
    assert all(set(of_a[n : n + 3]) == {"a", "a2", "a3"} for n in range(7))
    again = dataset(CropStore(store.path))
    assert [again.volume_key(n) for n in reversed(range(18))][::-1] == [
        data.volume_key(n) for n in range(18)
    ]
    firsts = {tuple(dataset(store, seed=s).volume_key(n) for n in range(2)) for s in range(20)}
    assert len({key for pair in firsts for key in pair} - {"b"}) == 3


def test_where_the_first_view_is_missing_another_takes_its_place(make_store, noise):
    store = make_store(
        {"a2": (noise, {"view_of": "a"}), "a3": (noise + 1, {"view_of": "a"}), "b": noise + 2}
    )
    (first,) = set(store.keys()) - {"b"}
    assert sorted(store.views(first)) == ["a2", "a3"]


@given(
    size=st.integers(1, 40),
    length=st.integers(1, 12),
    cells=st.integers(1, 5),
)
def test_bands_share_the_starts_of_a_volume_among_them(size, length, cells):
    """Every start lies in the band that its region's centre lies in, and in no other."""
    room = max(size - length, 0)
    for part in range(cells):
        band = (part / cells, (part + 1) / cells)
        first, last = first_and_last_start(size, length, band)
        inside = [
            s for s in range(room + 1) if Fraction(2 * s + length, 2 * size) * cells // 1 == part
        ]
        if size >= length and inside:
            assert list(range(first, last + 1)) == inside
        else:
            assert first == last


def test_weighted_starts_stay_in_their_band():
    weights = (9.0, 9.0, 0.0, 1.0, 3.0, 0.0, 9.0, 9.0)
    starts = draw_weighted_starts(np.random.default_rng(0), 4000, weights, 1, (0.25, 0.75))
    assert np.bincount(starts, minlength=8) / 4000 == pytest.approx(
        [0, 0, 0, 0.25, 0.75, 0, 0, 0], abs=0.03
    )
