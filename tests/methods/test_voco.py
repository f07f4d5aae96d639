"""VoCo as a module: one backbone pass, a teacher that lags, dropout that can be switched off."""

import copy

import pytest
import torch

from medssl.data.grid_views import GridViews
from medssl.data.views import Batch
from medssl.methods.voco import VoCo
from medssl.models.encoders.segresnet import SegResNetEncoder
from medssl.models.heads import row_dropout
from tests.regions import whole

VIEWS = GridViews(grid=(2, 2, 1), crop_voxels=8, random_crops=3)


def build(**options):
    torch.manual_seed(0)
    encoder = SegResNetEncoder.Config(width=4, blocks=(1, 1)).build()
    config = VoCo.Config(views=VIEWS, hidden_dim=16, projection_dim=16, **options)
    return config.build(encoder=encoder)


def a_batch(volumes=2, seed=1):
    import numpy as np

    rng = np.random.default_rng(seed)
    samples = [
        VIEWS.cut(whole(rng.random(VIEWS.region_voxels, dtype=np.float32)), VIEWS.draw(rng))
        for _ in range(volumes)
    ]
    return VIEWS.collate(samples)


def test_teacher_after_one_step_is_nine_tenths_old_and_one_tenth_student_before_the_optimiser():
    method, batch = build(), a_batch()
    for weight in method.student.parameters():  # so that student and teacher differ
        weight.data.add_(torch.randn_like(weight) * 0.1)
    teacher_0, student_0 = copy.deepcopy(method.teacher), copy.deepcopy(method.student)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)

    method.before_step(progress=0.0)
    method.loss(batch, progress=0.0).total.backward()
    optimizer.step()

    pairs = zip(method.student.parameters(), student_0.parameters(), strict=True)
    assert not all(torch.equal(now, before) for now, before in pairs)
    for now, t0, s0 in zip(
        method.teacher.parameters(), teacher_0.parameters(), student_0.parameters(), strict=True
    ):
        torch.testing.assert_close(now, 0.9 * t0 + 0.1 * s0)


def test_random_and_base_crops_share_one_backbone_pass(monkeypatch):
    method, batch = build(), a_batch()
    rows = []
    embed = method.encoder.embed
    monkeypatch.setattr(method.encoder, "embed", lambda x: rows.append(len(x)) or embed(x))
    method.loss(batch, progress=0.0)
    assert rows == [2 * 3 + 2 * 4]


def test_the_teacher_does_not_train():
    method = build()
    method.loss(a_batch(), progress=0.0).total.backward()
    assert all(p.grad is None and not p.requires_grad for p in method.teacher.parameters())


@pytest.mark.parametrize("kind", ["row", "feature", "none"])
def test_dropout_acts_in_training_only_and_by_its_kind(kind):
    method, batch = build(feature_dropout=kind), a_batch()
    first, second = (method.loss(batch, progress=0.0).total for _ in range(2))
    assert torch.equal(first, second) == (kind == "none")
    method.eval()
    first, second = (method.loss(batch, progress=0.0).total for _ in range(2))
    assert torch.equal(first, second)


def test_row_dropout_drops_whole_rows_and_keeps_the_mean():
    torch.manual_seed(0)
    z = row_dropout(torch.ones(4000, 3), 0.2)
    assert set(z.unique().tolist()) == {0.0, 1.25}
    assert (z.std(dim=1) == 0).all()
    assert z.mean() == pytest.approx(1.0, abs=0.05)


def test_loss_is_the_sum_of_its_parts_and_scores_are_shares():
    output = build(feature_dropout="none").loss(a_batch(), progress=0.0)
    torch.testing.assert_close(output.total, sum(output.parts.values()))
    assert set(output.parts) == {"intra", "inter", "regularization"}
    assert 0 <= output.scores["nearest_base_accuracy"] <= 1
    assert -1 <= output.scores["base_cosine"] <= 1


def test_a_crop_that_is_a_base_crop_is_placed_there():
    method = build(feature_dropout="none").eval()
    batch = a_batch()
    base = batch.views_BCIJK[1].unflatten(0, (2, 4))
    labels = torch.eye(4)[:3].expand(2, 3, 4)
    same = Batch([base[:, :3].flatten(0, 1), batch.views_BCIJK[1]], {"position_labels_BNK": labels})
    assert method.loss(same, progress=0.0).scores["nearest_base_accuracy"] == 1
