import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medssl.data.slice_weights import weights_on_planes


def slow(weights, slices_mm, planes_mm):
    """Overlap of every plane with every slice."""
    dz, step = slices_mm[1] - slices_mm[0], planes_mm[1] - planes_mm[0]
    found = []
    for plane in planes_mm:
        total = 0.0
        for weight, at in zip(weights, slices_mm, strict=True):
            low, high = max(plane - step / 2, at - dz / 2), min(plane + step / 2, at + dz / 2)
            total += weight * max(0.0, high - low) / dz
        found.append(total)
    return found


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=12),
    st.integers(2, 12),
    st.floats(0.3, 4),
    st.floats(0.3, 4),
    st.floats(-9, 9),
)
def test_weight_is_shared_by_overlap(weights, planes, dz, step, shift):
    slices_mm, planes_mm = dz * np.arange(len(weights)), shift + step * np.arange(planes)
    found = weights_on_planes(np.array(weights), slices_mm, planes_mm)
    np.testing.assert_allclose(found, slow(weights, slices_mm, planes_mm), atol=2e-6)


def test_the_same_grid_changes_nothing_and_a_box_around_all_loses_nothing():
    weights, at_mm = np.array([0, 1, 0, 0.5, 1]), np.arange(5) * 2.5
    assert weights_on_planes(weights, at_mm, at_mm) == pytest.approx(weights)
    wide = weights_on_planes(weights, at_mm, np.arange(-4, 20) * 1.5)
    assert sum(wide) == pytest.approx(2.5)


def test_one_slice_is_somewhere():
    assert sum(weights_on_planes(np.ones(1), np.zeros(1), np.arange(-2, 3) * 1.0)) == 1
