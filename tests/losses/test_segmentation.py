"""Losses of label maps against their definitions in loops, and against MONAI."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.losses import DiceCELoss, FocalLoss, TverskyLoss
from pydantic import ValidationError

from medssl.losses.segmentation import (
    SegmentationLoss,
    SegmentationLossConfig,
    deep_supervision,
    merged,
)

B, C, GRID = 3, 4, (4, 3, 2)
IGNORED = 255
REGIONS = ((1, 2, 3), (2, 3), (3,))
EPS = 1e-5


def segmentation_loss(name="dice_ce", *, regions=None, ignore_label=None, **options):
    config = SegmentationLossConfig(name=name, **options)
    return SegmentationLoss(config, regions=regions, ignore_label=ignore_label)


def case(seed=0, *, channels=C, labels=C, ignored=False):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(B, channels, *GRID, generator=generator, dtype=torch.float64)
    target = torch.randint(labels, (B, 1, *GRID), generator=generator)
    if ignored:
        target[torch.rand(target.shape, generator=generator) < 0.3] = IGNORED
    return logits.requires_grad_(), target


def voxels():
    return torch.cartesian_prod(*[torch.arange(n) for n in GRID]).tolist()


def softmax(values):
    top = max(values)
    powers = [math.exp(v - top) for v in values]
    return [power / sum(powers) for power in powers]


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def table(logits, target, *, regions=None, annotated=None, ignored=None):
    """Every voxel that counts: its case, probabilities and memberships, by definition."""
    rows = []
    for b in range(len(logits)):
        for place in voxels():
            label = int(target[(b, 0, *place)])
            if label == ignored:
                continue
            values = [float(logits[(b, c, *place)].detach()) for c in range(logits.shape[1])]
            if regions is not None:
                probabilities = [sigmoid(v) for v in values]
                rows.append((b, probabilities, [float(label in region) for region in regions]))
                continue
            probabilities = softmax(values)
            for c in range(1, len(values)):
                if annotated is not None and not annotated[b][c]:
                    probabilities[0] += probabilities[c]
                    probabilities[c] = 0.0
                    label = 0 if label == c else label
            rows.append((b, probabilities, [float(c == label) for c in range(len(values))]))
    return rows


def close(name):
    return 1e-6 if name == "dice_focal" else 1e-9  # MONAI's focal loss is in single precision


def slow_overlap(rows, counts, *, first, over_batch, score):
    """The mean of ``1 - score`` over the channels that count, cases pooled or one by one."""
    channels = range(first, len(rows[0][1]))
    groups = [list(range(B))] if over_batch else [[b] for b in range(B)]
    losses = []
    for group in groups:
        for c in channels:
            if not any(counts[b][c] for b in group):
                continue
            mine = [(p[c], g[c]) for b, p, g in rows if b in group and counts[b][c]]
            hit = sum(p * g for p, g in mine)
            alarm, miss = sum(p * (1 - g) for p, g in mine), sum((1 - p) * g for p, g in mine)
            losses.append(1 - score(hit, alarm, miss))
    return sum(losses) / len(losses)


def dice(hit, alarm, miss):
    return (2 * hit + EPS) / (2 * hit + alarm + miss + EPS)


def tversky(hit, alarm, miss, a=0.3, b=0.7):
    return (hit + EPS) / (hit + a * alarm + b * miss + EPS)


def slow_voxels(rows, counts, *, regions=False, gamma=0.0):
    terms = []
    for b, probabilities, truth in rows:
        for c, (p, g) in enumerate(zip(probabilities, truth, strict=True)):
            if regions and counts[b][c]:
                right = p if g else 1 - p
                terms.append(-((1 - right) ** gamma) * math.log(right))
            elif not regions and g:
                terms.append(-((1 - p) ** gamma) * math.log(p))
    return sum(terms) / len(terms)


ALL = [[True] * C for _ in range(B)]
SOME = [[True, True, False, True], [True, False, False, True], [True, False, True, True]]
NEVER_2 = [[True, True, False, True], [True, False, False, True], [True, False, False, True]]


@pytest.mark.parametrize("over_batch", [True, False])
@pytest.mark.parametrize("ignored", [True, False])
@pytest.mark.parametrize("annotated", [None, SOME, NEVER_2])
@pytest.mark.parametrize(("name", "gamma"), [("dice_ce", 0.0), ("dice_focal", 2.0)])
def test_classes_by_definition(name, gamma, annotated, ignored, over_batch):
    logits, target = case(ignored=ignored)
    loss = segmentation_loss(
        name,
        over_batch=over_batch,
        overlap_weight=0.7,
        voxel_weight=0.4,
        ignore_label=IGNORED if ignored else None,
    )
    known = None if annotated is None else torch.tensor(annotated)
    rows = table(logits, target, annotated=annotated, ignored=IGNORED)
    counts = annotated or ALL
    overlap = slow_overlap(rows, counts, first=1, over_batch=over_batch, score=dice)
    expected = 0.7 * overlap + 0.4 * slow_voxels(rows, counts, gamma=gamma)
    assert loss(logits, target, known).item() == pytest.approx(expected, rel=close(name))


@pytest.mark.parametrize("over_batch", [True, False])
@pytest.mark.parametrize(
    "annotated", [None, [[True] * 3, [False, True, True], [True, False, True]]]
)
@pytest.mark.parametrize(("name", "gamma"), [("dice_ce", 0.0), ("dice_focal", 1.5)])
def test_overlapping_regions_by_definition(name, gamma, annotated, over_batch):
    logits, target = case(channels=len(REGIONS), ignored=True)
    options = {"focal_gamma": gamma} if name == "dice_focal" else {}
    loss = segmentation_loss(
        name, regions=REGIONS, ignore_label=IGNORED, over_batch=over_batch, **options
    )
    known = None if annotated is None else torch.tensor(annotated)
    rows = table(logits, target, regions=REGIONS, ignored=IGNORED)
    counts = annotated or ALL
    overlap = slow_overlap(rows, counts, first=0, over_batch=over_batch, score=dice)
    expected = overlap + slow_voxels(rows, counts, regions=True, gamma=gamma)
    assert loss(logits, target, known).item() == pytest.approx(expected, rel=close(name))


@pytest.mark.parametrize("over_batch", [True, False])
@pytest.mark.parametrize(("name", "power"), [("tversky", 1.0), ("focal_tversky", 0.75)])
def test_tversky_by_definition(name, power, over_batch):
    logits, target = case(ignored=True)
    loss = segmentation_loss(name, over_batch=over_batch, ignore_label=IGNORED)
    rows = table(logits, target, ignored=IGNORED)

    def score(*counts):
        return 1 - (1 - tversky(*counts)) ** power

    expected = slow_overlap(rows, ALL, first=1, over_batch=over_batch, score=score)
    assert loss(logits, target).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("over_batch", [True, False])
def test_where_all_is_known_they_are_monais(over_batch):
    logits, target = case()
    options = {"include_background": False, "to_onehot_y": True, "softmax": True}
    options |= {"batch": over_batch}
    theirs = DiceCELoss(**options, lambda_dice=0.3, lambda_ce=2)(logits, target)
    ours = segmentation_loss(over_batch=over_batch, overlap_weight=0.3, voxel_weight=2)
    torch.testing.assert_close(ours(logits, target), theirs)
    theirs = TverskyLoss(**options, alpha=0.2, beta=0.8)(logits, target)
    ours = segmentation_loss(
        "tversky", over_batch=over_batch, false_positives=0.2, false_negatives=0.8
    )
    torch.testing.assert_close(ours(logits, target), theirs)


def test_the_focal_part_is_monais_times_the_classes_its_mean_is_over():
    logits, target = case()
    theirs = FocalLoss(to_onehot_y=True, use_softmax=True, gamma=2.0)(logits, target)
    ours = segmentation_loss("dice_focal", overlap_weight=0)(logits, target)
    torch.testing.assert_close(ours.float(), C * theirs)


def test_focal_without_focus_is_cross_entropy():
    logits, target = case()
    focal = segmentation_loss("dice_focal", focal_gamma=0)(logits, target)
    torch.testing.assert_close(focal.float(), segmentation_loss()(logits, target).float())


def test_a_perfect_answer_costs_nothing_and_the_opposite_much():
    _, target = case()
    perfect = torch.nn.functional.one_hot(target[:, 0], C).movedim(-1, 1) * 50.0
    for name in ("dice_ce", "dice_focal", "tversky", "focal_tversky"):
        loss = segmentation_loss(name)
        assert loss(perfect, target) < 1e-4
        assert loss(-perfect, target) > 0.9


@given(seed=st.integers(0, 50), value=st.floats(-30, 30))
def test_what_is_ignored_can_be_anything(seed, value):
    logits, target = case(seed, ignored=True)
    loss = segmentation_loss(ignore_label=IGNORED)
    other = torch.where(target == IGNORED, value, logits)
    assert torch.equal(loss(logits, target), loss(other, target))
    (slope,) = torch.autograd.grad(loss(logits, target), logits)
    assert not slope[(target == IGNORED).expand_as(slope)].any()


@pytest.mark.parametrize("name", ["dice_ce", "dice_focal", "tversky", "focal_tversky"])
@pytest.mark.parametrize("regions", [None, ((1,), (1, 2), (2,), (3,))])
def test_a_batch_of_which_nothing_counts_costs_nothing_and_moves_nothing(name, regions):
    logits, _ = case()
    target = torch.full((B, 1, *GRID), IGNORED)
    loss = segmentation_loss(name, ignore_label=IGNORED, regions=regions)(logits, target)
    (slope,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(0.0, abs=1e-4)
    assert not slope.any()


def test_a_class_that_is_not_annotated_may_be_predicted_where_background_is_labelled():
    target = torch.zeros(1, 1, *GRID, dtype=torch.long)
    annotated = torch.tensor([[True, True, False, True]])
    says_2 = torch.zeros(1, C, *GRID)
    says_2[:, 2] = 50.0
    loss = segmentation_loss(over_batch=False)
    assert loss(says_2, target, annotated) < 1e-4
    assert loss(says_2, target) > 10
    says_1 = says_2.roll(-1, dims=1)
    assert loss(says_1, target, annotated) > 10


def test_probabilities_of_merged_classes_are_added_to_the_background():
    logits, target = case()
    annotated = torch.tensor(SOME)
    together, labels = merged(logits, target, annotated)
    p, q = logits.softmax(1), together.softmax(1)
    missing = (~annotated)[:, :, None, None, None]
    torch.testing.assert_close(q[:, 0], p[:, 0] + (p * missing).sum(1))
    assert not q.masked_select(missing.expand_as(q)).any()
    assert all(annotated[b][label] for b in range(B) for label in labels[b].flatten().tolist())


def test_gradients_are_numbers_in_every_corner():
    _, target = case(ignored=True)
    annotated = torch.tensor(SOME)
    for name in ("dice_ce", "dice_focal", "tversky", "focal_tversky"):
        for scale in (0.0, 1.0, 1e4):
            logits = (torch.randn(B, C, *GRID) * scale).requires_grad_()
            loss = segmentation_loss(name, ignore_label=IGNORED)(logits, target, annotated)
            (slope,) = torch.autograd.grad(loss, logits)
            assert loss.isfinite()
            assert slope.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_compared_in_single(dtype):
    logits, target = case(ignored=True)
    half = logits.detach().to(dtype)
    loss, known = segmentation_loss(ignore_label=IGNORED), torch.tensor(SOME)
    assert torch.equal(loss(half, target, known), loss(half.float(), target, known))


def test_slices_and_labels_of_any_number_type_are_read():
    logits, target = case()
    loss = segmentation_loss()
    assert torch.equal(loss(logits, target), loss(logits, target.float()))
    assert torch.equal(loss(logits, target), loss(logits, target.to(torch.uint8)))
    flat, labels = logits[..., 0], target[..., 0]
    deep = loss(flat[..., None], labels[..., None])
    torch.testing.assert_close(loss(flat, labels), deep)


def test_deep_supervision_by_hand():
    fine, target = case()
    coarse, coarsest = torch.randn(B, C, 2, 1, 1), torch.randn(B, C, 1, 1, 1)
    loss = partial(segmentation_loss(), annotated_BC=torch.tensor(SOME))
    middle = target[:, :, 1::2, 1::3, 1:2]  # the nearest to the middle of each block, not its first
    lowest = target[:, :, 2:3, 1:2, 1:2]
    expected = (4 * loss(fine, target) + 2 * loss(coarse, middle) + loss(coarsest, lowest)) / 7
    found = deep_supervision(loss, [fine, coarse, coarsest], target)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(deep_supervision(loss, [fine], target), loss(fine, target))


def test_an_option_of_another_loss_is_refused():
    with pytest.raises(ValidationError, match="dice_ce has no focal_gamma"):
        SegmentationLossConfig(name="dice_ce", focal_gamma=1)
    with pytest.raises(ValidationError, match="tversky has no voxel_weight, tversky_gamma"):
        SegmentationLossConfig(name="tversky", voxel_weight=2, tversky_gamma=2)
    with pytest.raises(ValidationError):
        segmentation_loss("dise")


def test_regions_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="one label or more"):
        segmentation_loss(regions=((1,), ()))
    with pytest.raises(ValueError, match="label 3 is to be ignored"):
        segmentation_loss(regions=((1, 3),), ignore_label=3)
