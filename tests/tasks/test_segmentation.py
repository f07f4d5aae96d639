import numpy as np
import pytest
import torch

from medssl.models.encoders.segresnet import SegResNetEncoder
from medssl.models.linear_segmenter import LinearSegmenter
from medssl.tasks.segmentation import Segmentation

LABELS = ("background", "one", "two")


def slow_loss(logits, target, *, dice_over_batch, dice_weight=1.0, ce_weight=1.0):
    """Soft Dice without background plus cross-entropy, voxel by voxel, in float64."""
    logits, target = logits.double().numpy(), target.numpy()[:, 0]
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probability = shifted / shifted.sum(axis=1, keepdims=True)
    entropy = -np.mean(np.log(np.take_along_axis(probability, target[:, None], axis=1)))
    terms = []
    samples = [list(range(len(logits)))] if dice_over_batch else [[b] for b in range(len(logits))]
    for rows in samples:
        for label in range(1, logits.shape[1]):
            p = probability[rows, label]
            g = (target[rows] == label).astype(np.float64)
            terms.append(1 - (2 * (p * g).sum() + 1e-5) / (p.sum() + g.sum() + 1e-5))
    return dice_weight * np.mean(terms) + ce_weight * entropy


@pytest.mark.parametrize("dice_over_batch", [True, False])
def test_the_loss_equals_its_slow_twin(dice_over_batch):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, 4, 3, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 3, (2, 1, 5, 4, 3), generator=generator)
    options = {"dice_over_batch": dice_over_batch, "dice_weight": 0.7, "ce_weight": 1.3}
    loss = {"over_batch": dice_over_batch, "overlap_weight": 0.7, "voxel_weight": 1.3}
    task = Segmentation.Config(loss=loss).build(labels=LABELS)
    assert task.loss(logits, target).item() == pytest.approx(
        slow_loss(logits, target, **options), abs=1e-9
    )


def test_a_right_answer_costs_nothing_and_class_numbers_may_be_bytes():
    task = Segmentation.Config().build(labels=LABELS)
    target = torch.randint(0, 3, (1, 1, 6, 6, 6), generator=torch.Generator().manual_seed(1))
    logits = 50 * torch.nn.functional.one_hot(target[:, 0], 3).movedim(-1, 1).float()
    assert task.loss(logits, target.to(torch.uint8)).item() == pytest.approx(0, abs=1e-4)


def test_one_channel_per_label():
    task = Segmentation.Config().build(labels=LABELS)
    assert task.out_channels == 3
    assert task.inferer_spec((8, 16, 24))["roi_size"] == [8, 16, 24]


def test_regions_have_a_channel_each_and_are_thresholded():
    task = Segmentation.Config(regions=(("both", (1, 2)), ("two", (2,)))).build(labels=LABELS)
    assert (task.out_channels, task.answers) == (2, ("both", "two"))
    label = torch.tensor([0, 1, 2]).view(1, 1, 3, 1, 1)
    assert task.reference_masks(label).view(2, 3).tolist() == [
        [False, True, True],
        [False, False, True],
    ]
    logits = torch.tensor([[-1.0, 2.0, 0.5], [-3.0, -0.1, 0.1]]).view(1, 2, 3, 1, 1)
    assert torch.equal(task.masks(logits), task.reference_masks(label))
    assert task.postprocessing_specs()[-1]["threshold"] == 0.5


def test_classes_are_the_largest_logit_and_the_background_is_no_answer():
    task = Segmentation.Config().build(labels=LABELS)
    label = torch.tensor([0, 1, 2, 1]).view(1, 1, 4, 1, 1)
    logits = torch.nn.functional.one_hot(label[:, 0], 3).movedim(-1, 1).float()
    assert task.answers == ("one", "two")
    assert torch.equal(task.masks(logits), task.reference_masks(label))
    assert task.masks(logits).sum(dim=(0, 2, 3, 4)).tolist() == [2, 1]


def test_an_ignored_label_is_judged_nowhere():
    task = Segmentation.Config(ignore_label=7).build(labels=LABELS)
    label = torch.tensor([0, 7, 2]).view(1, 1, 3, 1, 1)
    assert task.judged(label).flatten().tolist() == [True, False, True]
    wrong = torch.randn(1, 3, 3, 1, 1)
    changed = wrong.clone()
    changed[:, :, 1] += 5
    assert task.loss(wrong, label) == task.loss(changed, label)


def test_a_linear_head_has_no_decoder():
    encoder = SegResNetEncoder.Config.tiny().build()
    network, _ = Segmentation.Config(head="linear").build(labels=LABELS).network(encoder)
    assert isinstance(network, LinearSegmenter)
