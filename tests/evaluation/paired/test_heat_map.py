import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F

from medssl.data.study_views import StudyViews
from medssl.evaluation.paired.heat_map import heat_map, prepared
from medssl.evaluation.paired.subject import Subject
from medssl.io.volume import Volume
from medssl.models.encoders.unet import UNetEncoder
from medssl.models.image_text import ImageTextConfig
from medssl.models.text.hf_folder import HFFolder
from tests.evaluation.paired.bright_studies import SAYS, SIZE, SPACING_MM, volume


@pytest.fixture
def words(subject):
    return subject.embed_words([SAYS[1]])[0]


def scaled(number, planes=3):
    return ((volume(number, planes) + 1000) / 2000).clip(0, 1).astype(np.float32)


def test_a_plane_of_the_size_of_training_is_one_look(subject, words):
    image = scaled(1, planes=1)
    found = heat_map(subject, image, words)
    x = torch.from_numpy(image[None, None, ..., 0])
    with torch.no_grad():
        seen = subject.model.image_features(x, places=True)
    side = SIZE // 2
    cosines = np.zeros((side, side))
    for place, vector in enumerate(seen.places_BPD[0].double().numpy()):
        cosines[divmod(place, side)] = vector @ words / np.linalg.norm(vector)
    fine = F.interpolate(torch.from_numpy(cosines)[None, None], (SIZE, SIZE), mode="bilinear")
    np.testing.assert_allclose(found[..., 0], fine[0, 0], atol=1e-5)


def test_the_map_is_highest_where_it_is(subject, words):
    for number in (1, 3, 5):
        heat = heat_map(subject, scaled(number), words)
        inside = np.zeros(heat.shape, bool)
        inside[9:14, 3:8] = True
        assert heat[inside].mean() > heat[~inside].mean()
        assert inside[np.unravel_index(heat.argmax(), heat.shape)]


def test_a_volume_larger_than_a_patch_is_covered_and_averaged(subject, words):
    image = np.zeros((SIZE + 8, SIZE, 2), np.float32)
    image[4:9, 3:8] = 0.9
    found = heat_map(subject, image, words)
    first, last = (heat_map(subject, image[a : a + SIZE], words) for a in (0, 8))
    np.testing.assert_allclose(found[:8], first[:8], atol=1e-6)
    np.testing.assert_allclose(found[8:SIZE], (first[8:] + last[:8]) / 2, atol=1e-6)
    np.testing.assert_allclose(found[SIZE:], last[8:], atol=1e-6)


def test_a_volume_smaller_than_a_patch_is_centred_in_it(subject, words):
    image = scaled(1, planes=1)[4:12, 2:9]
    padded = np.zeros((SIZE, SIZE, 1), np.float32)
    padded[4:12, 5:12] = image
    whole = heat_map(subject, padded, words)
    np.testing.assert_allclose(heat_map(subject, image, words), whole[4:12, 5:12], atol=1e-6)


def test_smoothing_is_in_mm(subject, words):
    image = scaled(3)
    plain, smooth = (heat_map(subject, image, words, sigma_mm=s) for s in (0.0, 3.0))
    np.testing.assert_allclose(smooth, gaussian_filter(plain, 1.5, mode="nearest"), atol=1e-6)


def test_volumes_are_seen_in_three_dimensions(bright, words):
    torch.manual_seed(0)
    encoder = UNetEncoder.Config(channels=(4, 8), depths=(1, 1), decoder_convs=1).build()
    config = ImageTextConfig(
        text=HFFolder.Config(path=bright / "text_source"), dim=8, places_stride=2
    )
    model = config.build(encoder).eval()
    subject = Subject(
        model=model,
        views=StudyViews(crop_voxels=8),
        drawn=StudyViews(crop_voxels=8),
        looks=1,
        intensity={},
        spacing_mm=SPACING_MM,
        digest="",
        device=torch.device("cpu"),
    )
    image = np.random.default_rng(0).random((12, 8, 8)).astype(np.float32)
    assert heat_map(subject, image, words).shape == (12, 8, 8)


def test_a_label_map_follows_its_volume(subject):
    array = volume(1, planes=6)
    label = np.zeros(array.shape, np.uint8)
    label[9:14, 3:8] = 1
    affine = np.diag([-1.0, -1.0, 4.0, 1.0])  # towards left and posterior, 1 x 1 x 4 mm
    volume_ = Volume(array_IJK=array, affine_ras=affine, modality="CT", intensity="hu")
    image, seen, placed = prepared(subject, volume_, label)
    assert image.shape == seen.shape == (8, 8, 11)
    np.testing.assert_allclose(np.diag(placed)[:3], SPACING_MM)
    assert image[seen == 1].mean() > image[seen == 0].mean() + 0.2
    assert prepared(subject, volume_)[1] is None
