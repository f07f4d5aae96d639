"""The first batch as a picture, for every method's views."""

import numpy as np
import pytest
from matplotlib.image import imread

from medssl.config.choice import available, find
from medssl.config.load import validate
from medssl.data.crop_views import CropViews
from medssl.models.encoders.segresnet import SegResNetEncoder
from medssl.training.montage import draw_montage, tile
from medssl.training.pretrain import PretrainConfig, pretrain
from tests.regions import sample_of
from tests.training.stores import write_store
from tests.training.test_pretrain import tree


def noise(rng, shape):
    return rng.random(shape, dtype=np.float32)


def batch_of(views, samples=2):
    rng = np.random.default_rng(0)
    return views.collate([sample_of(views, rng, noise) for _ in range(samples)])


@pytest.mark.parametrize("name", available("medssl.methods"))
def test_every_method_has_a_picture(name, tmp_path):
    encoder = SegResNetEncoder.Config.tiny().build()
    method = find("medssl.methods", name).Config.tiny().build(encoder=encoder)
    batch = batch_of(method.views)
    captions = method.views.captions(batch)
    assert [len(words) for words in captions] == [len(view) for view in batch.views_BCIJK]
    assert all(word for words in captions for word in words)
    draw_montage(tmp_path / "crops.png", batch, method.views, most_crops=12)
    assert imread(tmp_path / "crops.png").ndim == 3


@pytest.mark.parametrize("local_crops", [0, 3])
def test_slices_and_several_kinds(local_crops, tmp_path):
    views = CropViews(dims=2, crop_voxels=16, local_voxels=8, local_crops=local_crops)
    draw_montage(tmp_path / "crops.png", batch_of(views), views, most_crops=3)
    assert (tmp_path / "crops.png").stat().st_size > 0


def test_a_crop_is_shown_by_three_planes_right_on_the_left_head_and_front_up():
    crop = np.zeros((1, 3, 4, 5), np.float32)
    crop[0, 2, 3, 2] = 1  # the patient's right, in front, at half the height
    crop[0, 1, 2, 4] = 1  # the top of the middle
    picture = tile(crop)
    assert picture.shape == (5, 3 + 3 + 4 + 3)  # one white column behind each plane
    axial, coronal, sagittal = picture[:4, :3], picture[:, 4:7], picture[:, 8:12]
    assert axial[0, 0] == 1
    assert coronal[0, 1] == 1
    assert sagittal[0, 1] == 1
    assert tile(crop[..., :1]).shape == (4, 4)
    assert tile(crop[..., 0]).shape == (4, 3)
    assert tile(np.concatenate([crop, crop])).shape == (10, 13)


def test_a_pretraining_leaves_the_picture_of_its_first_batch_and_sends_it_only_if_told(tmp_path):
    store = write_store(tmp_path / "store")
    sent = []
    for track in (False, True):
        values = tree(store, tmp_path / f"{track}", steps=3)
        values["montage"] = {"most_crops": 4, "track": track}
        values["tracking"] = {"enabled": True, "uri": f"sqlite:///{tmp_path / 'mlflow.db'}"}
        result = pretrain(validate(PretrainConfig, values, where="test"))
        assert (result.folder / result.look_at["crops"]).stat().st_size > 0
        sent.append(len(list(tmp_path.rglob("*artifacts*/**/crops.png"))))
    assert sent == [0, 1]
