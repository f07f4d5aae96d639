"""The CT window."""

import numpy as np
import pytest
from pydantic import ValidationError

from medssl.data.intensity.ct import CTWindow


def test_the_window_becomes_zero_to_one_and_the_rest_is_clipped():
    scale = CTWindow.Config(window_hu=(-200, 300)).build()
    crop = np.array([-3000, -200, 50, 300, 3000], dtype=np.int16)
    scaled = scale.normalize(crop, entry=None)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, [0, 0, 0.5, 1, 1], atol=1e-6)


def test_the_default_keeps_lung_and_bone():
    assert CTWindow.Config().window_hu == (-1000, 1000)


def test_a_window_that_falls_is_refused():
    with pytest.raises(ValidationError, match="window_hu must rise from low to high"):
        CTWindow.Config(window_hu=(300, -200))
