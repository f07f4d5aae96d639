"""Samples of several regions: one from each partition of a volume, and known to lie there."""

import numpy as np
import pytest

from medssl.data.appearance import AppearanceConfig
from medssl.data.augment import AugmentConfig, never
from medssl.data.crop_views import CropViews
from medssl.data.dataset import CropDataset, DatasetConfig
from medssl.data.partition_views import PartitionViews
from medssl.data.store import CropStore
from medssl.data.views import Region
from tests.regions import whole
from tests.training.stores import write_store

STILL = {
    "augment": AugmentConfig(flip_probability=0, rotate_probability=0, shift_probability=0),
    "appearance": never(AppearanceConfig),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return CropStore(write_store(tmp_path_factory.mktemp("store") / "store", size=24))


@pytest.mark.parametrize(
    ("dims", "partitions"), [(2, (1, 1, 4)), (3, (1, 1, 2)), (3, (2, 2, 2)), (2, (1, 2, 3))]
)
def test_a_sample_holds_a_region_of_every_partition_in_order(store, dims, partitions):
    views = PartitionViews(dims=dims, crop_voxels=6, partitions=partitions, crops=3)
    data = CropDataset(store, views, DatasetConfig(), samples=4, batch_size=2, seed=0)
    batch = views.collate([data[0], data[1]])
    parts = int(np.prod(partitions))
    assert batch.views_BCIJK[0].shape == (2 * parts * 3, 1, *(6,) * dims)
    expected = np.broadcast_to(np.repeat(np.arange(parts), 3), (2, parts * 3))
    np.testing.assert_array_equal(batch.geometry["partition_BN"], expected)
    cells = np.floor(batch.geometry["place_0_BN3"][..., 2].numpy() * partitions[2])
    if dims == 2:  # a slice has one place along K, so each crop lies where its region does
        np.testing.assert_array_equal(cells, expected % partitions[2])


def test_a_region_that_lies_elsewhere_says_so():
    views = PartitionViews(crop_voxels=4, spread=1, partitions=(1, 1, 4), **STILL)
    region = Region(np.zeros((4, 4, 4), np.float32), (0, 0, 3), (4, 4, 8))
    sample = views.cut(region, views.draw(np.random.default_rng(0)))
    assert sample.geometry["partition_BN"].tolist() == [2, 2]
    padded = Region(np.zeros((4, 4, 4), np.float32), (0, 0, 7), (4, 4, 8))
    sample = views.cut(padded, views.draw(np.random.default_rng(0)))
    assert sample.geometry["partition_BN"].tolist() == [3, 3]


def test_the_first_crop_may_be_kept_as_it_is():
    views = PartitionViews(crop_voxels=4, spread=2, zoom=(1, 1.5), crops=2, keep_first=True)
    rng = np.random.default_rng(0)
    region_IJK = rng.random(views.region_voxels, dtype=np.float32)
    crops_N1IJK = views.cut(whole(region_IJK), views.draw(rng)).views_BCIJK[0]
    np.testing.assert_array_equal(crops_N1IJK[0, 0], region_IJK[2:6, 2:6, 2:6])
    assert not np.array_equal(crops_N1IJK[1, 0], crops_N1IJK[0, 0])


def test_one_partition_is_the_plain_spec():
    plain, one = CropViews(crop_voxels=4), PartitionViews(crop_voxels=4)
    region = whole(np.random.default_rng(0).random(one.region_voxels, dtype=np.float32))
    a, b = (s.cut(region, s.draw(np.random.default_rng(1))) for s in (plain, one))
    assert (one.parts, one.band(0)) == (plain.parts, plain.band(0))
    np.testing.assert_array_equal(a.views_BCIJK[0], b.views_BCIJK[0])
