from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import DiceMetric

from medssl.errors import InputError
from medssl.evaluation.segmentation_metrics import (
    image_diagonal_mm,
    score_mask,
    score_masks,
)

SPACING_MM = (0.7, 1.1, 3.0)
SHAPE = (7, 6, 5)


def surface(mask):
    """Return the voxels with a neighbour, of six, that is not of the mask; outside is not."""
    places = {tuple(int(v) for v in place) for place in np.argwhere(mask)}
    steps = [step for step in product((-1, 0, 1), repeat=3) if sum(map(abs, step)) == 1]
    return [
        place
        for place in sorted(places)
        if any(tuple(np.add(place, step).tolist()) not in places for step in steps)
    ]


def slow_surfaces(predicted, reference, spacing_mm, tolerance_mm):
    """Surface Dice and HD95 by the definition: every voxel of one surface to every other's."""

    def nearest(these, those):
        found = []
        for one in these:
            apart = [
                sum(((a - b) * s) ** 2 for a, b, s in zip(one, other, spacing_mm, strict=True))
                for other in those
            ]
            found.append(min(apart) ** 0.5)
        return found

    p, r = surface(predicted), surface(reference)
    there, back = nearest(p, r), nearest(r, p)
    near = sum(d <= tolerance_mm + 1e-6 for d in [*there, *back])
    hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
    return near / (len(there) + len(back)), hd95


def box(shape, corner, size):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(c, c + s) for c, s in zip(corner, size, strict=True))] = True
    return mask


def ball(centre_mm, radius_mm, shape, spacing_mm):
    axes = [(np.arange(n) + 0.5) * s for n, s in zip(shape, spacing_mm, strict=True)]
    grid = np.meshgrid(*axes, indexing="ij")
    return sum((g - c) ** 2 for g, c in zip(grid, centre_mm, strict=True)) <= radius_mm**2


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), SPACING_MM, (3.0, 0.7, 1.1)])
@pytest.mark.parametrize("seed", range(3))
def test_surfaces_equal_their_slow_twin(seed, spacing_mm):
    rng = np.random.default_rng(seed)
    predicted, reference = (rng.random((2, *SHAPE)) < 0.4).astype(bool)
    for tolerance_mm in (0.0, 0.7, 1.2, 3.0):
        found = score_mask(predicted, reference, spacing_mm, tolerance_mm)
        twin = slow_surfaces(predicted, reference, spacing_mm, tolerance_mm)
        assert (found.surface_dice, found.hd95_mm) == pytest.approx(twin, abs=1e-5)


@pytest.mark.parametrize(("axis", "step_mm"), [(0, 0.7), (1, 1.1), (2, 3.0)])
def test_two_slabs_are_as_far_apart_as_their_spacing_says(axis, step_mm):
    size = [9, 9, 9]
    size[axis] = 1
    corner = [1, 1, 1]
    reference = box((11, 11, 11), corner, size)
    corner[axis] += 2
    predicted = box((11, 11, 11), corner, size)
    near = score_mask(predicted, reference, SPACING_MM, 2 * step_mm)
    far = score_mask(predicted, reference, SPACING_MM, 2 * step_mm - 0.01)
    assert near.hd95_mm == pytest.approx(2 * step_mm, abs=1e-5)
    assert (near.surface_dice, far.surface_dice, near.dice) == (1, 0, 0)


def test_surface_dice_of_two_cubes_by_hand():
    # The surface of 5 x 5 x 5 voxels has two faces of 25 and three rings of 16 between them: 98.
    # After one step along I both surfaces hold the rings of the four planes they share: 64.
    cube, moved = box((9, 9, 9), (2, 2, 2), (5, 5, 5)), box((9, 9, 9), (3, 2, 2), (5, 5, 5))
    assert score_mask(moved, cube, (1, 1, 1), 0.0).surface_dice == pytest.approx(64 / 98)
    assert score_mask(moved, cube, (1, 1, 1), 1.0).surface_dice == 1


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (1.0, 1.0, 2.0)])
def test_surface_dice_of_two_balls_is_about_what_geometry_says(spacing_mm):
    radius_mm, apart_mm, tolerance_mm = 16.0, 5.3, 2.2
    cosine = np.linspace(-1, 1, 20001)  # a sphere has the same area between equal steps of it
    to_other = np.sqrt(radius_mm**2 + apart_mm**2 - 2 * radius_mm * apart_mm * cosine) - radius_mm
    exact = np.mean(np.abs(to_other) <= tolerance_mm)
    shape = tuple(int(44 / s) for s in spacing_mm)
    step = np.array([0.6, 0.64, 0.48]) * apart_mm / 2
    pair = [ball(22 + sign * step, radius_mm, shape, spacing_mm) for sign in (-1, 1)]
    found = score_mask(*pair, spacing_mm, tolerance_mm)
    assert found.surface_dice == pytest.approx(exact, abs=0.1)
    assert found.hd95_mm == pytest.approx(apart_mm, abs=0.8)


@pytest.mark.parametrize("seed", range(3))
def test_dice_is_that_of_monai(seed):
    rng = np.random.default_rng(seed)
    pair = (rng.random((2, 3, *SHAPE)) < 0.5).astype(bool)
    tensors = [torch.from_numpy(mask[None].astype(np.float64)) for mask in pair]
    monai = DiceMetric(include_background=True, reduction="none")(*tensors)[0]
    table = score_masks(*pair, list("abc"), spacing_mm=SPACING_MM, tolerance_mm=1)
    assert table["dice"].to_numpy() == pytest.approx(monai.numpy())


def test_volumes_are_in_millilitres_and_errors_have_a_sign():
    reference, predicted = box(SHAPE, (0, 0, 0), (2, 2, 5)), box(SHAPE, (0, 0, 0), (1, 3, 5))
    found = score_mask(predicted, reference, (2.0, 5.0, 10.0), 1.0)
    assert (found.reference_ml, found.predicted_ml) == pytest.approx((2.0, 1.5))
    assert found.relative_volume_error == pytest.approx(-0.25)
    assert found.absolute_volume_error_ml == pytest.approx(0.5)


def test_a_structure_without_reference_has_no_scores_but_a_false_positive_is_counted():
    empty, something = np.zeros(SHAPE, bool), box(SHAPE, (1, 1, 1), (2, 2, 2))
    found = score_mask(something, empty, (5, 5, 5), 1)
    assert np.isnan(
        [found.dice, found.surface_dice, found.hd95_mm, found.relative_volume_error]
    ).all()
    assert (found.false_positive, found.missed, found.predicted_ml) == (True, False, 1.0)
    assert found.absolute_volume_error_ml == 1.0
    nothing = score_mask(empty, empty, (5, 5, 5), 1)
    assert np.isnan(nothing.dice)
    assert (nothing.false_positive, nothing.missed) == (False, False)


def test_a_missed_structure_gets_the_worst_values():
    empty, something = np.zeros(SHAPE, bool), box(SHAPE, (1, 1, 1), (2, 2, 2))
    found = score_mask(empty, something, SPACING_MM, 1)
    diagonal_mm = (4.9**2 + 6.6**2 + 15.0**2) ** 0.5
    assert (found.dice, found.surface_dice, found.missed) == (0, 0, True)
    assert found.hd95_mm == pytest.approx(diagonal_mm)
    assert found.relative_volume_error == -1


def test_no_two_voxels_are_as_far_apart_as_a_missed_structure_counts():
    corners = [box(SHAPE, corner, (1, 1, 1)) for corner in ((0, 0, 0), (6, 5, 4))]
    found = score_mask(*corners, SPACING_MM, 1)
    assert found.hd95_mm < image_diagonal_mm(SHAPE, SPACING_MM)


def test_each_structure_is_scored_by_itself_though_they_overlap():
    rng = np.random.default_rng(0)
    predicted, reference = rng.integers(0, 4, (2, *SHAPE))
    regions = {"whole": (1, 2, 3), "core": (2, 3), "two": (2,)}
    masks = [np.stack([np.isin(m, c) for c in regions.values()]) for m in (predicted, reference)]
    table = score_masks(*masks, list(regions), spacing_mm=SPACING_MM, tolerance_mm=2.0)
    assert list(table["class"]) == list(regions)
    by_hand = score_mask(predicted >= 2, reference >= 2, SPACING_MM, 2.0)
    found = table.set_index("class").loc["core"]
    assert (found["dice"], found["hd95_mm"]) == (by_hand.dice, by_hand.hd95_mm)
    assert found["surface_dice"] == by_hand.surface_dice
    assert found["tolerance_mm"] == 2.0


masks = arrays(bool, (5, 4, 3), elements=st.booleans())


@given(first=masks, second=masks, axis=st.integers(0, 2))
@settings(max_examples=40, deadline=None)
def test_scores_keep_under_flips_and_are_symmetric(first, second, axis):
    scores = score_mask(first, second, SPACING_MM, 1.0)
    flipped = score_mask(np.flip(first, axis).copy(), np.flip(second, axis).copy(), SPACING_MM, 1.0)
    names = ("dice", "surface_dice", "hd95_mm", "predicted_ml")
    assert [getattr(flipped, n) for n in names] == pytest.approx(
        [getattr(scores, n) for n in names], abs=1e-6, nan_ok=True
    )
    if first.any() and second.any():
        back = score_mask(second, first, SPACING_MM, 1.0)
        assert back.dice == scores.dice
        assert back.surface_dice == pytest.approx(scores.surface_dice)
        assert back.hd95_mm == pytest.approx(scores.hd95_mm)
        assert 0 <= scores.surface_dice <= 1


@given(mask=masks)
@settings(max_examples=20, deadline=None)
def test_a_mask_agrees_with_itself(mask):
    found = score_mask(mask, mask, SPACING_MM, 0.0)
    if mask.any():
        assert (found.dice, found.surface_dice, found.hd95_mm) == (1, 1, 0)
        assert (found.relative_volume_error, found.absolute_volume_error_ml) == (0, 0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"predicted_IJK": np.zeros((2, 2, 2), bool)}, "cannot be compared with a reference"),
        ({"spacing_mm": (1.0, 1.0)}, "has to be 3 numbers above 0"),
        ({"spacing_mm": (1.0, 0.0, 1.0)}, "has to be 3 numbers above 0"),
        ({"spacing_mm": (1.0, float("nan"), 1.0)}, "has to be 3 numbers above 0"),
        ({"tolerance_mm": -1.0}, "the tolerance is -1.0 mm"),
    ],
)
def test_what_cannot_be_scored_is_explained(change, said):
    mask = np.ones(SHAPE, bool)
    given_ = {"predicted_IJK": mask, "reference_IJK": mask, "tolerance_mm": 1.0}
    with pytest.raises(InputError, match=said):
        score_mask(**({"spacing_mm": SPACING_MM} | given_ | change))
