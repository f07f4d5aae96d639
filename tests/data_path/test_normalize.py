"""The scale that fits the unit."""

from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import ValidationError

from medssl.data.normalize import IntensityConfig


@pytest.mark.parametrize(
    ("unit", "modality", "expected"),
    [("hu", "CT", 0.5), ("arbitrary", "MR", 0.0), ("arbitrary", "CT", 0.0)],
)
def test_only_hounsfield_units_get_the_window(unit, modality, expected):
    entry = SimpleNamespace(intensity=unit, modality=modality, p005=0.0, p995=100.0)
    value = IntensityConfig().normalize(np.zeros((1, 1, 1), np.int16), entry)
    np.testing.assert_allclose(value, expected, atol=1e-6)


def test_options_may_be_given_without_repeating_the_name():
    config = IntensityConfig.model_validate({"ct": {"window_hu": [-175, 250]}})
    assert config.ct.window_hu == (-175, 250)
    assert IntensityConfig.model_validate(config.model_dump(mode="json")) == config


def test_another_scale_may_be_chosen_by_its_name():
    config = IntensityConfig.model_validate({"ct": {"name": "mr"}})
    assert config.ct.name == "mr"
    with pytest.raises(ValidationError, match=r"unknown name 'mri'\. Did you mean 'mr'"):
        IntensityConfig.model_validate({"mr": {"name": "mri"}})
