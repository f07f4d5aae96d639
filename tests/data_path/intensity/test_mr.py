"""MR percentiles."""

from types import SimpleNamespace

import numpy as np

from medssl.data.intensity.mr import MRPercentiles


def test_the_volumes_percentiles_decide_and_not_the_crops():
    scale = MRPercentiles.Config().build()
    entry = SimpleNamespace(p005=10.0, p995=210.0)
    crop = np.array([0, 10, 60, 210, 900], dtype=np.uint16)
    np.testing.assert_allclose(scale.normalize(crop, entry), [0, 0, 0.25, 1, 1], atol=1e-6)
    np.testing.assert_allclose(scale.normalize(crop[2:3], entry), [0.25], atol=1e-6)


def test_a_volume_without_contrast_becomes_zero():
    scale = MRPercentiles.Config().build()
    entry = SimpleNamespace(p005=7.0, p995=7.0)
    assert (scale.normalize(np.full((2, 2, 2), 7, np.uint8), entry) == 0).all()
