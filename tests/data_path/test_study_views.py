import numpy as np
import pytest
import torch
from pydantic import ValidationError

from medssl.data.annotations import HEAT, ORGANS
from medssl.data.normalize import IntensityConfig
from medssl.data.study_views import StudyViews, in_place, study_images
from medssl.data.views import Region
from medssl.reports.pairs import Pair

SCALE = IntensityConfig()
STILL = {
    f"{name}_probability": 0.0 for name in ("brightness", "contrast", "gamma", "noise", "blur")
}


def pair(*keys):
    return Pair(study_key="s", patient_key="p", split="train", volume_keys=keys, sections=())


@pytest.fixture
def store(make_store, noise):
    return make_store({"a": noise, "b": noise[::-1].copy(), "flat": noise[:, :, :1].copy()})


def test_a_study_shows_its_volumes_or_their_planes(store):
    whole = study_images(store, pair("a", "b"), flat=False)
    assert [(image.volume_key, image.plane) for image in whole] == [("a", None), ("b", None)]
    planes = study_images(store, pair("a", "flat"), flat=True)
    assert len(planes) == 22
    assert planes[20] == ("a", 20, 60.0)
    assert planes[21] == ("flat", 0, 1.0)


@pytest.mark.parametrize("dims", [2, 3])
def test_without_a_generator_it_is_the_middle_as_it_is_stored(store, noise, dims):
    views = StudyViews(dims=dims, crop_voxels=16, images=1, spread=1.25, zoom=(0.9, 1.2))
    sample = views.read(store, pair("a"), SCALE)
    expected = SCALE.normalize(noise[12:28, 10:26, 2:18], store.entry("a"))
    expected = expected[None, :, :, 8] if dims == 2 else expected[None]
    np.testing.assert_array_equal(sample.views_BCIJK[0][0], expected)


def test_slices_are_spread_evenly_where_there_are_more_than_asked_for(store):
    views = StudyViews(dims=2, crop_voxels=8, images=3)
    sample = views.read(store, pair("a"), SCALE)
    assert sample.geometry["position_mm_BVS"].tolist() == [[9.0, 30.0, 51.0]]


def test_each_view_draws_its_own_images_in_order(store):
    views = StudyViews(dims=2, crop_voxels=8, images=4, views=2)
    positions = views.read(store, pair("a"), SCALE, np.random.default_rng(0)).geometry[
        "position_mm_BVS"
    ]
    assert (np.diff(positions, axis=1) > 0).all()
    assert positions[0].tolist() != positions[1].tolist()


def test_a_mirrored_study_is_the_mirror_image(store):
    views = StudyViews(crop_voxels=16, appearance=STILL)
    rngs = [np.random.default_rng(5) for _ in range(2)]
    there = views.read(store, pair("a"), SCALE, rngs[0]).views_BCIJK[0]
    mirrored = views.read(store, pair("a"), SCALE, rngs[1], mirrored=True).views_BCIJK[0]
    np.testing.assert_array_equal(mirrored, there[:, :, ::-1])


def test_samples_bring_as_many_rows_as_they_have_images(store):
    views = StudyViews(dims=2, crop_voxels=8, images=4)
    samples = [views.read(store, pair(*keys), SCALE) for keys in (("flat",), ("flat", "a"))]
    batch = views.collate(samples)
    present_BVS = batch.geometry["present_BVS"]
    assert batch.views_BCIJK[0].shape == (5, 1, 8, 8)
    assert present_BVS.sum((1, 2)).tolist() == [1, 4]
    assert len(views.captions(batch)[0]) == 5
    placed = in_place(batch.views_BCIJK[0], present_BVS)
    assert placed.shape == (2, 1, 4, 1, 8, 8)
    assert torch.equal(placed[present_BVS], batch.views_BCIJK[0])
    assert not placed[~present_BVS].any()


def test_drawn_images_stay_inside_their_region():
    views = StudyViews(crop_voxels=12, images=2, views=2, spread=1.5, zoom=(0.8, 1.5))
    rng = np.random.default_rng(0)
    region = Region(np.ones(views.region_voxels, np.float32), (0, 0, 0), views.region_voxels)
    sample = views.cut(region, views.draw(rng))
    assert sample.views_BCIJK[0].shape == (4, 1, 12, 12, 12)
    assert sample.geometry["present_BVS"].all()


def test_a_box_larger_than_its_region_is_refused():
    with pytest.raises(ValidationError, match="raise spread"):
        StudyViews(zoom=(0.5, 1.0))
    with pytest.raises(ValidationError, match="rise from low to high"):
        StudyViews(zoom=(1.2, 1.0))


def annotated(make_store, views, *, mirrored, seed, keys=("a",)):
    """Cut a volume that is bright where its organ is, and maps of it."""
    organ = np.zeros((40, 37, 21), np.uint8)
    organ[4:17, 9:30, 5:16], organ[20:30, 3:12, 2:9] = 1, 1
    store = make_store({"a": (organ * 2000.0 - 1000).astype(np.int16), "b": organ.astype(np.int16)})
    maps = {
        ORGANS: make_store({"a": (organ, {"background": 0})}, "organs"),
        HEAT: make_store({"a": (organ.astype(np.float32), {"background": 0})}, "heat"),
    }
    scale = IntensityConfig(ct={"window_hu": (-1000.0, 1000.0)})
    rng = None if seed is None else np.random.default_rng(seed)
    return views.read(store, pair(*keys), scale, rng, mirrored=mirrored, annotations=maps)


@pytest.mark.parametrize("seed", [None, 0, 1])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("dims", [2, 3])
def test_maps_follow_the_image_under_every_change(make_store, dims, mirrored, seed):
    size = [24, 20] if dims == 2 else [24, 20, 12]
    views = StudyViews(
        dims=dims,
        crop_voxels=(*size, 1)[:3],
        images=2,
        views=2,
        spread=1.4,
        zoom=(0.8, 1.5),
        appearance=STILL,
    )
    sample = annotated(make_store, views, mirrored=mirrored, seed=seed)
    images, organ, heat = (sample.views_BCIJK[0][:, 0], *map(sample.geometry.get, (ORGANS, HEAT)))
    images = images.reshape(organ.shape)
    shown = np.flatnonzero(organ.reshape(len(organ), -1).any(1))
    assert len(shown)
    for n in shown:
        assert set(np.unique(organ[n])) == {0.0, 1.0}
        inside = images[n] > 0.5
        assert (inside == organ[n]).mean() > 0.97
        np.testing.assert_allclose(heat[n], images[n], atol=1e-5)


def test_images_without_maps_have_none_and_rows_are_joined(make_store):
    views = StudyViews(crop_voxels=12, images=2)
    sample = annotated(make_store, views, mirrored=False, seed=None, keys=("a", "b"))
    assert sample.geometry[ORGANS][0].any()
    assert not sample.geometry[ORGANS][1].any()  # of "b"
    batch = views.collate([sample, sample])
    assert batch.geometry[ORGANS].shape == (4, 12, 12, 12)
    assert batch.geometry["present_BVS"].shape == (2, 1, 2)
