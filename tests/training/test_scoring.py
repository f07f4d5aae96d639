import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from medssl.tasks.classification import Classification
from medssl.tasks.regression import Regression
from medssl.tasks.segmentation import Segmentation
from medssl.training.scoring import auroc, by_patient, score

SIZE = {"patch_voxels": (8, 8, 8)}


class Threshold(nn.Module):
    """Class 1 above 0.3, class 2 above 0.6: a network whose answer is known."""

    def forward(self, x):
        return torch.cat([torch.full_like(x, 0.3), x, 2 * x - 0.6], dim=1)


class Mean(nn.Module):
    """The mean of a volume, on as many channels as are asked for."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def forward(self, x):
        return x.flatten(1).mean(1, keepdim=True) * torch.arange(1, self.channels + 1)


def segmentation(**options):
    return Segmentation.Config(**options).build(labels=("background", "one", "two"))


def labelled(image, label):
    return {
        "image": torch.from_numpy(image[None]).float(),
        "label": torch.from_numpy(label[None]).to(torch.uint8),
    }


def dice(p, g):
    return 2 * (p & g).sum() / (p.sum() + g.sum())


def test_dice_equals_its_slow_twin_and_absent_classes_do_not_count():
    rng = np.random.default_rng(0)
    volumes, found = [], {1: [], 2: []}
    for number in range(3):
        image = rng.uniform(0, 1, (9, 10, 11))
        label = rng.integers(0, 3 if number else 2, image.shape)
        predicted = (image > 0.3).astype(int) + (image > 0.6)
        for name in (1, 2):
            if (label == name).any():
                found[name].append(dice(predicted == name, label == name))
        volumes.append(labelled(image, label))
    scores = score(Threshold(), segmentation(), volumes, ["a", "b", "c"], **SIZE)
    assert len(found[2]) == 2
    assert scores["val/dice_one"] == pytest.approx(np.mean(found[1]), abs=1e-6)
    assert scores["val/dice_two"] == pytest.approx(np.mean(found[2]), abs=1e-6)
    assert scores["val/dice"] == pytest.approx(np.mean([np.mean(found[1]), np.mean(found[2])]))


def test_a_patient_with_two_volumes_counts_once():
    rng = np.random.default_rng(1)
    images = rng.uniform(0, 1, (3, 8, 8, 8))
    labels = rng.integers(0, 3, images.shape)
    each = [dice((i > 0.3) & (i <= 0.6), lab == 1) for i, lab in zip(images, labels, strict=True)]
    volumes = [labelled(*pair) for pair in zip(images, labels, strict=True)]
    scores = score(Threshold(), segmentation(), volumes, ["a", "b", "a"], **SIZE)
    expected = ((each[0] + each[2]) / 2 + each[1]) / 2
    assert scores["val/dice_one"] == pytest.approx(expected, abs=1e-6)
    assert scores["val/dice_one"] != pytest.approx(np.mean(each), abs=1e-4)


def test_without_a_labelled_voxel_there_is_no_score():
    empty = {"image": torch.rand(1, 8, 8, 8), "label": torch.zeros(1, 8, 8, 8, dtype=torch.uint8)}
    assert math.isnan(score(Threshold(), segmentation(), [empty], ["a"], **SIZE)["val/dice"])


def test_voxels_that_are_ignored_count_nowhere():
    rng = np.random.default_rng(2)
    image, label = rng.uniform(0, 1, (8, 8, 8)), rng.integers(0, 3, (8, 8, 8))
    label[:4] = 9
    scores = score(
        Threshold(), segmentation(ignore_label=9), [labelled(image, label)], ["a"], **SIZE
    )
    kept = dice((image[4:] > 0.3) & (image[4:] <= 0.6), label[4:] == 1)
    assert scores["val/dice_one"] == pytest.approx(kept, abs=1e-6)


def test_regions_may_overlap():
    rng = np.random.default_rng(3)
    image, label = rng.uniform(-1, 1, (8, 8, 8)), rng.integers(0, 3, (8, 8, 8))
    task = segmentation(regions=(("whole", (1, 2)), ("kernel", (2,))))

    class Two(nn.Module):
        def forward(self, x):
            return torch.cat([x, x - 0.5], dim=1)

    scores = score(Two(), task, [labelled(image, label)], ["a"], **SIZE)
    assert scores["val/dice_whole"] == pytest.approx(dice(image > 0, label > 0), abs=1e-6)
    assert scores["val/dice_kernel"] == pytest.approx(dice(image > 0.5, label == 2), abs=1e-6)


def test_scoring_leaves_the_network_in_training_mode():
    network = Threshold().train()
    score(
        network, segmentation(), [labelled(np.ones((8, 8, 8)), np.ones((8, 8, 8)))], ["a"], **SIZE
    )
    assert network.training


def test_auroc_of_classes_is_that_of_their_patients():
    rng = np.random.default_rng(4)
    volumes = [
        {"image": torch.from_numpy(rng.normal(n % 2, 1, (1, 4, 4, 4))).float(),
         "target": torch.tensor(n % 2)}
        for n in range(12)
    ]  # fmt: skip
    patients = [f"p{n // 4}{n % 2}" for n in range(12)]  # six patients of two volumes
    task = Classification.Config(columns=("finding",)).build(labels=("no", "yes"))
    scores = score(Mean(2), task, volumes, patients, **SIZE)
    names = list(dict.fromkeys(patients))
    means = [
        np.mean(
            [float(v["image"].mean()) for v, p in zip(volumes, patients, strict=True) if p == n]
        )
        for n in names
    ]
    truth = [int(name[-1]) for name in names]
    assert scores["val/auroc_yes"] == pytest.approx(roc_auc_score(truth, means), abs=1e-6)
    logits = torch.cat([Mean(2)(v["image"][None]) for v in volumes])
    target = torch.stack([v["target"] for v in volumes])
    assert scores["val/loss"] == pytest.approx(float(task.loss(logits, target)))


def test_cases_are_ranked_by_probability_not_by_one_of_its_logits():
    task = Classification.Config(columns=("finding",)).build(labels=("no", "yes"))
    logits = {0: [5.0, 4.0], 1: [0.0, 2.0]}  # the logit of yes is higher where it is not the case

    class Known(nn.Module):
        def forward(self, x):
            return torch.tensor([logits[int(x[0, 0, 0, 0, 0])]])

    volumes = [
        {"image": torch.full((1, 2, 2, 2), float(n)), "target": torch.tensor(n)} for n in logits
    ]
    assert score(Known(), task, volumes, ["a", "b"], **SIZE)["val/auroc_yes"] == 1.0


def test_what_is_not_known_does_not_count():
    truth, scores = np.array([1.0, 0.0, np.nan, 1.0]), np.array([0.9, 0.1, 5.0, 0.8])
    assert auroc(truth, scores) == 1.0
    assert math.isnan(auroc(np.array([1.0, np.nan]), np.array([0.1, 0.2])))


def test_the_error_of_numbers_is_in_their_units_and_the_monitor_in_their_spread():
    values = (1.0, 2.0, 4.0)
    volumes = [
        {
            "image": torch.full((1, 4, 4, 4), value),
            "target": torch.tensor([3 * value + 10, math.nan]),
        }
        for value in values
    ]
    volumes[0]["target"][1] = 7.0
    config = Regression.Config(columns=("age", "size"), means=(10.0, 0.0), stds=(2.0, 1.0))
    scores = score(Mean(2), config.build(labels=config.columns), volumes, ["a", "b", "b"], **SIZE)
    errors = [abs(2 * v + 10 - (3 * v + 10)) for v in values]
    age = (errors[0] + (errors[1] + errors[2]) / 2) / 2
    assert scores["val/mae_age"] == pytest.approx(age)
    assert scores["val/mae_size"] == pytest.approx(abs(2 * 1.0 - 7.0))
    assert scores["val/neg_mae"] == pytest.approx(-(age / 2 + 5.0) / 2)


def test_the_mean_of_a_patient_leaves_out_what_is_missing():
    values = np.array([[1.0, np.nan], [3.0, np.nan], [5.0, 2.0]])
    assert np.array_equal(by_patient(values, ["b", "b", "a"]), [[2.0, np.nan], [5.0, 2.0]], True)
