import numpy as np
import pytest
import torch
from torch import nn

from medssl.tasks.segmentation import Segmentation
from medssl.training.engine import EngineConfig
from medssl.training.optimizer import OptimizerConfig
from medssl.training.schedule import ScheduleConfig
from medssl.training.supervised import SupervisedModule, score


class Threshold(nn.Module):
    """Class 1 above 0.3, class 2 above 0.6: a network whose answer is known."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return torch.cat([torch.full_like(x, 0.3), x, 2 * x - 0.6], dim=1) * self.weight


def module():
    task = Segmentation.Config().build(labels=("background", "one", "two"))
    return SupervisedModule(
        Threshold(),
        task,
        optimizer=OptimizerConfig(),
        schedule=ScheduleConfig(steps=2, warmup_steps=0),
        engine=EngineConfig(),
        seed=0,
    )


def test_the_score_equals_its_slow_twin_and_absent_classes_do_not_count():
    rng = np.random.default_rng(0)
    volumes, dice = [], {1: [], 2: []}
    for number in range(3):
        image = rng.uniform(0, 1, (9, 10, 11))
        label = rng.integers(0, 3 if number else 2, image.shape)
        predicted = (image > 0.3).astype(int) + (image > 0.6)
        for name in (1, 2):
            p, g = predicted == name, label == name
            if g.any():
                dice[name].append(2 * (p & g).sum() / (p.sum() + g.sum()))
        volumes.append(
            {
                "image": torch.from_numpy(image[None]).float(),
                "label": torch.from_numpy(label[None]).to(torch.uint8),
            }
        )
    found = score(module(), volumes, (8, 8, 8))
    assert len(dice[2]) == 2
    assert found["val/dice_one"] == pytest.approx(np.mean(dice[1]), abs=1e-6)
    assert found["val/dice_two"] == pytest.approx(np.mean(dice[2]), abs=1e-6)
    assert found["val/dice"] == pytest.approx(np.mean([np.mean(dice[1]), np.mean(dice[2])]))


def test_without_a_labelled_voxel_there_is_no_score():
    empty = {"image": torch.rand(1, 8, 8, 8), "label": torch.zeros(1, 8, 8, 8, dtype=torch.uint8)}
    assert np.isnan(score(module(), [empty], (8, 8, 8))["val/dice"])


def test_scoring_leaves_the_network_in_training_mode():
    trained = module()
    trained.network.train()
    score(trained, [{"image": torch.rand(1, 8, 8, 8), "label": torch.ones(1, 8, 8, 8)}], (8, 8, 8))
    assert trained.network.training
