import math

import numpy as np
import pytest
from scipy import ndimage

from medssl.curation.slice_agreement import COPY_AGREEMENT, agreement, fine_structure
from pipelines.benchmarks.planted_slices import VERSIONS


@pytest.fixture(scope="module")
def textures():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(2):
        field = ndimage.gaussian_filter(rng.normal(size=(160, 150)), 2.5)
        found.append((127 + 60 * field / field.std()).clip(0, 255).astype(np.uint8))
    return found


@pytest.mark.parametrize("version", ["original", "resize", "gamma", "smooth", "sharpen"])
def test_altered_copies_agree_and_others_do_not(version, textures):
    one, other = textures
    altered = VERSIONS[version](one, np.random.default_rng(1))
    assert agreement(fine_structure(one), fine_structure(altered)) >= COPY_AGREEMENT
    assert agreement(fine_structure(other), fine_structure(altered)) < 0.3


def test_it_is_a_correlation(textures):
    a, b = (fine_structure(image) for image in textures)
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    above = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    below = math.sqrt(sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b))
    assert agreement(a, b) == pytest.approx(above / below, abs=1e-6)
    assert agreement(a, a) == 1


def test_a_slice_of_one_value_agrees_with_nothing(textures):
    flat = fine_structure(np.full((50, 60), 90, np.uint8))
    assert not flat.any()
    assert agreement(flat, fine_structure(textures[0])) == 0
