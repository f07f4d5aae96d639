from collections import Counter

import torch

from medssl.training.patches import PatchAugmentConfig
from medssl.training.whole_volumes import WholeVolumeDataset

STILL = PatchAugmentConfig(flip_probability=0, intensity_probability=0)


def volumes(targets):
    return [
        {"image": torch.full((1, 4, 4, 4), float(n)), "target": torch.tensor(target)}
        for n, target in enumerate(targets)
    ]


def dataset(targets, *, balanced, augment=STILL, seed=0, batch=4):
    options = {"batch_size": batch, "seed": seed, "balanced": balanced}
    return WholeVolumeDataset(volumes(targets), augment, **options)


def test_classes_are_drawn_in_turn_however_rare_one_is():
    drawn = dataset([0] * 9 + [1], balanced=True)
    targets = Counter(int(drawn[n]["target"]) for n in range(20))
    assert targets == {0: 10, 1: 10}


def test_without_balance_every_volume_is_drawn_once_an_epoch():
    drawn = dataset([0] * 9 + [1], balanced=False, batch=5)
    assert sorted(float(drawn[n]["image"].mean()) for n in range(10)) == list(range(10))


def test_a_class_that_is_not_known_is_never_drawn_where_classes_count():
    drawn = dataset([0, 1, -1], balanced=True)
    assert {int(drawn[n]["target"]) for n in range(30)} == {0, 1}


def test_a_sample_depends_on_seed_and_number_alone():
    wild = PatchAugmentConfig(flip_probability=0.5, intensity_probability=1)
    one, other = (dataset([0, 1, 0, 1], balanced=True, augment=wild) for _ in range(2))
    forward = [one[n]["image"] for n in range(6)]
    backward = [other[n]["image"] for n in reversed(range(6))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forward, backward, strict=True))
    again = dataset([0, 1, 0, 1], balanced=True, augment=wild, seed=1)
    assert any(not torch.equal(again[n]["image"], forward[n]) for n in range(6))


def test_the_stored_volume_stays_as_it_is():
    kept = volumes([0, 1])
    wild = PatchAugmentConfig(flip_probability=1, intensity_probability=1)
    drawn = WholeVolumeDataset(kept, wild, batch_size=2, seed=0, balanced=False)
    assert any(not torch.equal(drawn[n]["image"], torch.full((1, 4, 4, 4), 0.0)) for n in range(2))
    assert torch.equal(kept[1]["image"], torch.ones(1, 4, 4, 4))
