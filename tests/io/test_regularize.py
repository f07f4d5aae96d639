"""The resamplers against plain loops, and against a linear field, which they must reproduce."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.errors import RejectedFileError
from medssl.io import geometry
from medssl.io.limits import Limits
from medssl.io.regularize import (
    StackPlan,
    outside_value,
    plan_rectangle,
    refuse_too_large,
    resample_affine,
    resample_stack,
)
from tests import phantoms

OUTSIDE = -1000.0


def noise(shape, dtype=np.int16, seed=0):
    return np.random.default_rng(seed).integers(-900, 900, shape).astype(dtype)


def linear_at(array, place):
    """Return the value at a place in voxels, by the definition; None outside."""
    corners = [((), 1.0)]
    for size, at in zip(array.shape, place, strict=True):
        low = math.floor(at + 1e-9)
        part = at - low if at - low > 1e-9 else 0.0
        if low < 0 or low + (part > 0) > size - 1:
            return None
        ends = [(low, 1 - part), (low + 1, part)] if part else [(low, 1.0)]
        corners = [((*index, n), weight * w) for index, weight in corners for n, w in ends]
    return sum(weight * float(array[index]) for index, weight in corners)


def slow_stack(array, plan):
    new = np.full(plan.shape, OUTSIDE)
    for i, j, k in np.ndindex(plan.shape):
        below = int(plan.depths[k])
        weight = plan.depths[k] - below
        values = []
        for index in [below] if weight == 0 else [below, below + 1]:
            a, b = plan.offsets_IJ[index]
            values.append(linear_at(array[:, :, index], (i - a, j - b)))
        if None not in values:
            new[i, j, k] = (
                values[0] if weight == 0 else (1 - weight) * values[0] + weight * values[1]
            )
    return new


def slow_affine(array, plan):
    new = np.full(plan.shape, OUTSIDE)
    for index in np.ndindex(plan.shape):
        place = plan.to_source[:3, :3] @ index + plan.to_source[:3, 3]
        value = linear_at(array, place)
        new[index] = OUTSIDE if value is None else value
    return new


OFFSETS = np.array([[0, 3.25], [0, 2.0], [0.5, 1.5], [1.0, 0.0]])
DEPTHS = np.array([0, 0.5, 1, 1.75, 2.25, 3])


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32])
def test_a_stack_against_its_slow_twin(dtype):
    array = np.abs(noise((5, 4, 4))).astype(dtype)
    plan = StackPlan((6, 8), OFFSETS, DEPTHS)
    outside = 0.0
    found = resample_stack(array, plan, outside)
    slow = slow_stack(array, plan)
    slow[slow == OUTSIDE] = outside
    assert found.dtype == dtype
    tolerance = 1e-4 if dtype == np.float32 else 0.5 + 1e-9
    assert np.abs(found.astype(float) - slow).max() <= tolerance


def test_a_slice_at_a_whole_place_is_not_touched():
    array = noise((5, 4, 4))
    plan = StackPlan((5, 4), np.zeros((4, 2)), np.array([0.0, 0.5, 1.0, 2.0, 3.0]))
    found = resample_stack(array, plan, OUTSIDE)
    np.testing.assert_array_equal(found[:, :, [0, 2, 3, 4]], array)
    moved = resample_stack(
        array, StackPlan((7, 4), np.array([[2.0, 0]] * 4), np.arange(4.0)), OUTSIDE
    )
    np.testing.assert_array_equal(moved[2:], array)
    assert (moved[:2] == OUTSIDE).all()


def sheared(column=0.4, row=0.2, degrees=(10, -5, 20), order=(0, 1, 2)):
    affine = phantoms.affine_ras(degrees, (0.8, 0.9, 2.5), (4.0, -3.0, 9.0))
    affine[:3, 2] += column * affine[:3, 1] + row * affine[:3, 0]
    affine[:3, :3] = affine[:3, order]
    return affine


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (1, 0, 2)])
def test_a_sheared_array_against_its_slow_twin(order):
    affine, array = sheared(order=order), noise((5, 6, 4), np.float32)
    plan = plan_rectangle(affine, array.shape)
    found = resample_affine(array, plan, OUTSIDE)
    np.testing.assert_allclose(found, slow_affine(array, plan), atol=1e-3)
    assert plan.slice_axis == order.index(2)


@given(
    column=st.floats(-0.9, 0.9),
    row=st.floats(-0.9, 0.9),
    plane=st.floats(-0.2, 0.2),
    degrees=st.tuples(*[st.floats(-90, 90)] * 3),
)
@settings(max_examples=40, deadline=None)
def test_a_linear_field_survives_any_shear(column, row, plane, degrees):
    affine = sheared(column, row, degrees)
    affine[:3, 1] += plane * affine[:3, 0]
    shape = (6, 7, 5)
    points = phantoms.points_mm(affine, shape)
    field = (points @ (7.0, -5.0, 3.0)).astype(np.float32)
    plan = plan_rectangle(affine, shape)
    assert geometry.shear_degrees(plan.affine_ras) < 1e-5
    assert np.linalg.det(plan.affine_ras) * np.linalg.det(affine) > 0
    found = resample_affine(field, plan, 1e6)
    inside = found < 1e6
    truth = phantoms.points_mm(plan.affine_ras, plan.shape) @ (7.0, -5.0, 3.0)
    assert inside.mean() > 0.1
    np.testing.assert_allclose(found[inside], truth[inside], atol=1e-2)
    inverse = np.linalg.inv(plan.affine_ras)
    reached = points @ inverse[:3, :3].T + inverse[:3, 3]
    assert (reached > -1e-4).all()
    assert (reached < np.array(plan.shape) - 1 + 1e-4).all()


def test_a_right_angled_array_keeps_its_grid():
    affine, array = phantoms.affine_ras((12, 3, -8)), noise((5, 6, 4))
    plan = plan_rectangle(affine, array.shape)
    assert plan.shape == array.shape
    np.testing.assert_allclose(plan.affine_ras, affine, atol=1e-9)
    np.testing.assert_array_equal(resample_affine(array, plan, OUTSIDE), array)


@pytest.mark.parametrize(
    ("dtype", "intensity", "expected"),
    [
        (np.int16, "hu", -1000),
        (np.float32, "hu", -1000),
        (np.uint16, "hu", 7),
        (np.int16, "arbitrary", 7),
    ],
)
def test_what_stands_outside(dtype, intensity, expected):
    assert outside_value(np.array([9, 7, 8], dtype), intensity) == expected


def test_a_grid_beyond_the_limit_is_refused_before_it_is_made():
    with pytest.raises(
        RejectedFileError, match=r"announces 7629 MiB of voxels, more than the 1 MiB"
    ):
        refuse_too_large((2000, 2000, 1000), np.dtype(np.int16), Limits(2**20))
