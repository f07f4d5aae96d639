"""VoCo with labels: which part trains what, and pseudo-labels of a copy that is taken once."""

import copy
import math

import numpy as np
import pytest
import torch

from medssl.data.grid_views import GridViews
from medssl.data.views import Labelled, LabelledPatches
from medssl.methods.voco import VoCo
from medssl.methods.voco_omni import VoCoOmni
from medssl.models.encoders.segresnet import SegResNetEncoder
from tests.regions import whole

VIEWS = GridViews(grid=(2, 2, 1), crop_voxels=8, random_crops=3)
PATCHES = LabelledPatches(patch_voxels=8, classes=3, per_sample=2)
HEADS = {"hidden_dim": 16, "projection_dim": 16}


def build(**options):
    torch.manual_seed(0)
    encoder = SegResNetEncoder.Config(width=4, blocks=(1, 1)).build()
    options = {"feature_dropout": "none", **HEADS, **options}
    return VoCoOmni.Config(views=VIEWS, patches=PATCHES, **options).build(encoder=encoder)


def a_batch(volumes=2, seed=1):
    rng = np.random.default_rng(seed)
    samples = [
        VIEWS.cut(whole(rng.random(VIEWS.region_voxels, dtype=np.float32)), VIEWS.draw(rng))
        for _ in range(volumes)
    ]
    rows = volumes * PATCHES.per_sample
    image = torch.from_numpy(rng.random((rows, 1, 8, 8, 8), dtype=np.float32))
    return VIEWS.collate(samples)._replace(labelled=Labelled(image, (image[:, 0] * 3).long()))


def slow_dice_ce(logits, labels, classes=3, eps=1e-5):
    """Dice without background and cross-entropy, patch by patch and class by class."""
    dice, entropy = [], []
    for scores, label in zip(logits.double(), labels, strict=True):
        p = scores.softmax(0)
        for c in range(1, classes):
            g = (label == c).double()
            dice.append(1 - (2 * (p[c] * g).sum() + eps) / (p[c].sum() + g.sum() + eps))
        entropy += [-math.log(p[label[at], *at]) for at in np.ndindex(*label.shape)]
    return float(torch.stack(dice).mean()) + float(np.mean(entropy))


def logits_of(method, x):
    return method.head(method.decoder(method.encoder.features(x))[-1])


def reached(method, part, batch):
    """Return which of the method's modules one part of the loss has a gradient for."""
    method.zero_grad()
    method.loss(batch, progress=0.9).parts[part].backward(retain_graph=True)
    parts = {"encoder", "decoder", "head", "placement"} & dict(method.named_children()).keys()
    return {
        name
        for name in parts
        if any(p.grad is not None and p.grad.any() for p in getattr(method, name).parameters())
    }


def test_the_first_half_is_voco_on_crops_and_dice_with_cross_entropy_on_patches():
    method, batch = build(), a_batch()
    method.before_step(progress=0.49)
    output = method.loss(batch, progress=0.49)
    assert set(output.parts) == {"intra", "inter", "regularization", "supervised"}
    torch.testing.assert_close(output.total, sum(output.parts.values()))
    image, label = batch.labelled
    expected = slow_dice_ce(logits_of(method, image).detach(), label)
    assert float(output.parts["supervised"].detach()) == pytest.approx(expected, rel=1e-4)


def test_the_places_are_learned_as_voco_does():
    method, batch = build(), a_batch()
    voco = VoCo.Config(views=VIEWS, feature_dropout="none", **HEADS).build(encoder=method.encoder)
    voco.placement.load_state_dict(method.placement.state_dict())
    expected = voco.loss(batch, progress=0.0)
    output = method.loss(batch, progress=0.0)
    for name, value in expected.parts.items():
        torch.testing.assert_close(output.parts[name], value)
    assert set(expected.scores) <= set(output.scores)
    assert method.constant_loss(batch) == voco.constant_loss(batch)


def test_pseudo_labels_are_those_of_the_network_at_half_time_until_the_end():
    method, batch = build(), a_batch()
    method.before_step(progress=0.0)
    for weight in method.parameters():
        weight.data.add_(torch.randn_like(weight) * 0.1)
    at_half_time = copy.deepcopy(method).eval()
    method.before_step(progress=0.5)
    for weight in (*method.encoder.parameters(), *method.decoder.parameters()):
        weight.data.add_(torch.randn_like(weight) * 0.1)
    method.before_step(progress=0.9)  # not refreshed
    crops = batch.views_BCIJK[0]
    labels = logits_of(at_half_time, crops).argmax(1)
    output = method.loss(batch, progress=0.9)
    expected = slow_dice_ce(logits_of(method, crops).detach(), labels)
    assert float(output.parts["pseudo"].detach()) == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(output.total, sum(output.parts.values()))
    assert not any(p.requires_grad for p in method.snapshot.parameters())


def test_the_snapshot_is_kept_with_the_state_and_not_taken_again():
    method, batch = build(), a_batch()
    method.before_step(progress=0.6)
    for weight in method.encoder.parameters():
        weight.data.add_(0.1)
    expected = method.loss(batch, progress=0.7).parts["pseudo"]
    resumed = build()
    resumed.load_state_dict(method.state_dict())
    assert torch.equal(resumed.loss(batch, progress=0.7).parts["pseudo"], expected)
    resumed.before_step(progress=0.7)
    assert torch.equal(resumed.loss(batch, progress=0.7).parts["pseudo"], expected)


@pytest.mark.parametrize("mode", ["omni", "semi"])
@pytest.mark.parametrize("detached", [True, False])
def test_each_part_trains_what_it_should(mode, detached):
    method, batch = build(mode=mode, detach_features=detached), a_batch()
    method.before_step(progress=0.5)
    assert reached(method, "supervised", batch) == {"encoder", "decoder", "head"}
    segmenting = {"decoder", "head"} if detached else {"encoder", "decoder", "head"}
    assert reached(method, "pseudo", batch) == segmenting
    if mode == "omni":
        assert reached(method, "intra", batch) == {"encoder", "placement"}


def test_semi_leaves_places_out_and_supervised_the_crops_too(monkeypatch):
    batch = a_batch()
    rows = []
    for mode, expected in (("semi", {"supervised", "pseudo"}), ("supervised", {"supervised"})):
        method = build(mode=mode)
        method.before_step(progress=0.5)
        features = method.encoder.features
        monkeypatch.setattr(
            method.encoder, "features", lambda x, f=features: rows.append(len(x)) or f(x)
        )
        assert set(method.loss(batch, progress=0.5).parts) == expected
        assert not any("placement" in name for name in method.state_dict())
        assert method.constant_loss(batch) == {}
    assert rows == [4, 6, 4], "labelled patches, random crops; labelled patches alone"


def test_no_crop_is_decoded_in_vain(monkeypatch):
    method, batch = build(), a_batch()
    rows = []
    decode = method.decoder.forward
    monkeypatch.setattr(method.decoder, "forward", lambda x: rows.append(len(x[0])) or decode(x))
    method.loss(batch, progress=0.0)
    assert rows == [4]
    method.before_step(progress=0.5)
    method.loss(batch, progress=0.5)
    assert rows == [4, 4, 6]


def test_a_decoder_worth_keeping_is_one_of_the_encoders():
    method = build()
    fresh = method.encoder.decoder()
    fresh.load_state_dict(method.decoder.state_dict())


def test_a_batch_without_labels_is_a_bug_and_says_so():
    with pytest.raises(ValueError, match="needs labelled patches"):
        build().loss(a_batch()._replace(labelled=None), progress=0.0)


def test_a_perfect_segmentation_has_a_dice_of_one(monkeypatch):
    method, batch = build(mode="supervised"), a_batch()
    one_hot = torch.nn.functional.one_hot(batch.labelled.label_BIJK, 3).movedim(-1, 1) * 50.0
    monkeypatch.setattr(method.head, "forward", lambda _: one_hot)
    output = method.loss(batch, progress=0.0)
    assert output.scores["labelled_dice"] == 1
    assert float(output.total) == pytest.approx(0, abs=1e-5)
