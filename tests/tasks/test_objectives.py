"""What training minimises beside a task's plain loss, and what is left of it in the network."""

import pytest
import torch
from torch.nn import functional as F

from medssl.errors import ConfigError
from medssl.losses.core_tuning import core_tuning, draw
from medssl.models.encoders.segresnet import SegResNetEncoder
from medssl.tasks.classification import Classification
from medssl.tasks.segmentation import Segmentation

LABELS = ("background", "one", "two")


def encoder(stages=4):
    torch.manual_seed(0)
    return SegResNetEncoder.Config(width=4, blocks=(1,) * stages).build()


def deeply_supervised():
    task = Segmentation.Config(deep_supervision=True).build(labels=LABELS)
    encoded = encoder()
    decoder = encoded.decoder()
    network, _ = task.network(encoded, decoder)
    return task, encoded, decoder, network, task.objective(network, encoded, decoder)


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 3, (2, 1, 16, 16, 16), generator=generator)
    return {"image": torch.rand(2, 1, 16, 16, 16, generator=generator), "label": label}


def test_deep_supervision_is_the_weighted_mean_of_losses_from_fine_to_coarse():
    task, encoded, decoder, network, objective = deeply_supervised()
    sample = batch()
    maps = decoder(encoded.features(sample["image"]))
    assert len(maps) == 3
    half = F.interpolate(sample["label"].float(), scale_factor=0.5, mode="nearest-exact")
    fine = task.loss(network(sample["image"]), sample["label"])
    coarse = task.loss(objective.heads[0](maps[1]), half)
    assert objective(sample).item() == pytest.approx(((fine + coarse / 2) / 1.5).item(), abs=1e-5)


def test_heads_of_coarser_maps_train_and_are_no_part_of_the_network():
    _, _, _, network, objective = deeply_supervised()
    names = set(network.state_dict())
    objective(batch()).backward()
    assert all(p.grad is not None for p in objective.parameters())
    assert set(network.state_dict()) == names
    assert not {id(p) for p in objective.parameters()} & {id(p) for p in network.parameters()}


def test_a_decoder_without_maps_between_cannot_be_deeply_supervised():
    task = Segmentation.Config(deep_supervision=True).build(labels=LABELS)
    encoded = encoder(stages=3)
    decoder = encoded.decoder()
    network, _ = task.network(encoded, decoder)
    with pytest.raises(ConfigError, match="has none"):
        task.objective(network, encoded, decoder)


def test_a_class_that_is_not_annotated_is_neither_rewarded_nor_punished():
    task = Segmentation.Config().build(labels=LABELS)
    sample = batch()
    sample["label"] = sample["label"].clamp(max=1)  # nobody looked for class 2
    sample["annotated"] = task.annotated(("one",)).expand(2, -1)
    logits = torch.randn(2, 3, 16, 16, 16)
    moved = logits.clone()
    share = torch.rand(2, 16, 16, 16)  # from background to class 2, their sum unchanged
    total = torch.logsumexp(logits[:, [0, 2]], dim=1)
    moved[:, 0], moved[:, 2] = total + share.log(), total + (1 - share).log()
    assert task.loss_of(moved, sample).item() == pytest.approx(
        task.loss_of(logits, sample).item(), abs=1e-5
    )
    del sample["annotated"]
    assert abs(task.loss_of(moved, sample) - task.loss_of(logits, sample)) > 1e-3


def test_a_region_is_annotated_where_all_of_its_classes_are():
    task = Segmentation.Config(regions=(("both", (1, 2)), ("two", (2,)))).build(labels=LABELS)
    assert task.annotated(("two",)).tolist() == [False, True]
    assert task.annotated(("one", "two")).tolist() == task.annotated(None).tolist() == [True, True]


def core_tuned():
    config = {"columns": ("kind",), "core_tuning": {"weight": 0.5, "projection_dim": 8}}
    task = Classification.Config.model_validate(config).build(labels=("x", "y"))
    network, _ = task.network(encoder())
    return task, network, task.objective(network, network.encoder)


def test_core_tuning_adds_its_contrast_to_a_smooth_cross_entropy():
    _, network, objective = core_tuned()
    x, target = torch.rand(4, 1, 16, 16, 16), torch.tensor([0, 1, 1, 0])
    torch.manual_seed(3)
    found = objective({"image": x, "target": target})
    torch.manual_seed(3)
    parts = core_tuning(
        network.embedded(x),
        target,
        draw(target, 1.0),
        classify=network.head,
        project=objective.project,
        temperature=0.07,
    )
    assert found.item() == pytest.approx((parts.smooth + 0.5 * parts.contrast).item(), abs=1e-6)


def test_core_tuning_leaves_out_what_is_not_known():
    _, _, objective = core_tuned()
    x = torch.rand(4, 1, 16, 16, 16)
    torch.manual_seed(3)
    some = objective({"image": x, "target": torch.tensor([0, -1, 1, 0])})
    torch.manual_seed(3)
    kept = objective({"image": x[[0, 2, 3]], "target": torch.tensor([0, 1, 0])})
    assert some.item() == pytest.approx(kept.item(), abs=1e-5)
    alone = objective({"image": x, "target": torch.tensor([-1, -1, 1, -1])})
    assert torch.isfinite(alone)


def test_core_tuning_needs_classes_that_exclude_each_other():
    with pytest.raises(ValueError, match="give one column"):
        Classification.Config.model_validate({"columns": ("a", "b"), "core_tuning": {}})
