"""VoCo as a module: one backbone pass, a teacher that lags, dropout that can be switched off."""

import copy

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import distributed as dist

from medssl.data.grid_views import GridViews
from medssl.data.views import Batch
from medssl.errors import ConfigError
from medssl.losses import voco as losses
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
    rng = np.random.default_rng(seed)
    samples = [
        VIEWS.cut(whole(rng.random(VIEWS.region_voxels, dtype=np.float32)), VIEWS.draw(rng))
        for _ in range(volumes)
    ]
    return VIEWS.collate(samples)


def test_teacher_after_one_step_is_nine_tenths_old_and_one_tenth_student_before_the_optimiser():
    method, batch = build(), a_batch()
    for weight in method.placement.student.parameters():  # so that student and teacher differ
        weight.data.add_(torch.randn_like(weight) * 0.1)
    teacher_0, student_0 = (
        copy.deepcopy(method.placement.teacher),
        copy.deepcopy(method.placement.student),
    )
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)

    method.before_step(progress=0.0)
    method.loss(batch, progress=0.0).total.backward()
    optimizer.step()

    pairs = zip(method.placement.student.parameters(), student_0.parameters(), strict=True)
    assert not all(torch.equal(now, before) for now, before in pairs)
    for now, t0, s0 in zip(
        method.placement.teacher.parameters(),
        teacher_0.parameters(),
        student_0.parameters(),
        strict=True,
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
    assert all(
        p.grad is None and not p.requires_grad for p in method.placement.teacher.parameters()
    )


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


VARIANTS = ("paper", "released", "large_scale")


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_learns_and_is_restored_by_its_state(variant):
    method, batch = build(variant=variant), a_batch()
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW((p for p in method.parameters() if p.requires_grad), lr=3e-4)
    method.eval()
    before = float(method.loss(batch, progress=0.0).total.detach())
    method.train()
    for step in range(12):
        method.before_step(progress=step / 12)
        optimizer.zero_grad()
        method.loss(batch, progress=step / 12).total.backward()
        assert all(weight.grad is not None for weight in method.encoder.parameters())
        optimizer.step()
    method.eval()
    after = method.loss(batch, progress=1.0)
    assert float(after.total.detach()) < before
    assert set(method.constant_loss(batch)) <= set(after.parts)
    other = build(variant=variant).eval()
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.loss(batch, progress=1.0).total, after.total)


def by_hand(method, batch, teacher_encoder, teacher):
    """The objective of `released` or `paper`, from embeddings of the whole batch."""
    x = torch.cat(batch.views_BCIJK)
    labels = batch.geometry["position_labels_BNK"]
    volumes, crops, bases = labels.shape
    cut = volumes * crops

    def project(encoder, head):
        z = head(encoder.embed(x))
        return losses.Projections(
            z[:cut].unflatten(0, (volumes, crops)), z[cut:].unflatten(0, (volumes, bases))
        )

    student = project(method.encoder, method.placement.student)
    if teacher is None:
        return losses.paper(student, labels, asymmetric=False)
    with torch.no_grad():
        taught = project(teacher_encoder, teacher)
    return losses.released(student, taught, labels, asymmetric=False)


def test_the_paper_has_no_teacher():
    method, batch = build(variant="paper"), a_batch()
    assert not any("teacher" in name for name in method.state_dict())
    expected = by_hand(method, batch, None, None)
    torch.testing.assert_close(method.loss(batch, progress=0.0).parts, expected)


@pytest.mark.parametrize("start", ["student", "independent"])
def test_the_released_teacher_is_moved_before_it_looks(start):
    """Forward of the student, update with its weights as they are, then the teacher's forward."""
    method, batch = build(variant="released", teacher_start=start), a_batch()
    placement = method.placement
    assert not any(p.requires_grad for p in placement.teacher_encoder.parameters())
    same = [
        torch.equal(a, b)
        for a, b in zip(
            (*method.encoder.parameters(), *placement.student.parameters()),
            (*placement.teacher_encoder.parameters(), *placement.teacher.parameters()),
            strict=True,
        )
        if a.ndim > 1
    ]
    assert all(same) if start == "student" else not any(same)
    for weight in (*method.encoder.parameters(), *placement.student.parameters()):
        weight.data.add_(torch.randn_like(weight) * 0.1)
    slow_encoder, slow_head = (
        copy.deepcopy(x) for x in (placement.teacher_encoder, placement.teacher)
    )
    for slow, fast in ((slow_encoder, method.encoder), (slow_head, placement.student)):
        for mine, theirs in zip(slow.parameters(), fast.parameters(), strict=True):
            mine.data = 0.9 * mine + 0.1 * theirs
    expected = by_hand(method, batch, slow_encoder, slow_head)
    method.before_step(progress=0.0)
    found = method.loss(batch, progress=0.0)
    torch.testing.assert_close(found.parts, expected, atol=1e-5, rtol=1e-4)
    found.total.backward()
    assert all(p.grad is None for p in placement.teacher_encoder.parameters())


def test_what_is_left_open_is_as_published_for_the_variant():
    found = {v: VoCo.Config(variant=v) for v in VARIANTS}
    assert {v: c.widths for v, c in found.items()} == {
        "paper": (2048, 2048), "released": (2048, 2048), "large_scale": (1024, 1024),
    }  # fmt: skip
    assert [found[v].dropped for v in VARIANTS] == ["none", "none", "row"]
    assert VoCo.Config(hidden_dim=7, projection_dim=5).widths == (7, 5)


def test_the_terms_reach_the_loss():
    parts = build(feature_dropout="none").loss(a_batch(), progress=0.0).parts
    heavy = build(feature_dropout="none", terms={"regulariser": 3.0, "inter": 0.0})
    found = heavy.loss(a_batch(), progress=0.0).parts
    torch.testing.assert_close(found["regularization"], 3 * parts["regularization"])
    assert found["inter"] == 0


def test_scores_are_means_over_the_pairs_they_name():
    method, batch = build(variant="paper"), a_batch()
    output = method.loss(batch, progress=0.0)
    z = output.z_ND.unflatten(0, (2, 4))
    random = method.placement.student(method.encoder.embed(torch.cat(batch.views_BCIJK)))[:6]
    cosine = torch.cosine_similarity(random.unflatten(0, (2, 3))[:, :, None], z[:, None], dim=-1)
    overlap = batch.geometry["position_labels_BNK"] > 0
    torch.testing.assert_close(output.scores["positive_cosine"], cosine[overlap].mean())
    torch.testing.assert_close(output.scores["negative_cosine"], cosine[~overlap].mean())


def test_the_loss_is_in_float32_under_mixed_precision():
    method, batch = build(feature_dropout="none"), a_batch()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = method.loss(batch, progress=0.0)
    assert {x.dtype for x in (mixed.total, mixed.z_ND, *mixed.parts.values())} == {torch.float32}
    full = method.loss(batch, progress=0.0)
    torch.testing.assert_close(mixed.total, full.total, atol=0.05, rtol=0.05)


def part_of(batch, rank):
    """One of two processes' volumes, with its views."""
    views = [v.chunk(2)[rank] for v in batch.views_BCIJK]
    return Batch(views, {k: v.chunk(2)[rank] for k, v in batch.geometry.items()})


def loss_and_gradients(variant, rank=None):
    """Of the whole batch, or of one of two processes' part; in float64, to compare closely."""
    method, batch = build(variant=variant).double(), a_batch(volumes=4)
    batch = Batch([v.double() for v in batch.views_BCIJK], batch.geometry)
    method.before_step(progress=0.0)
    torch.manual_seed(5 + (rank or 0))  # processes draw differently, and use what the first drew
    total = method.loss(batch if rank is None else part_of(batch, rank), progress=0.0).total
    total.backward()
    named = method.named_parameters()
    return {"total": total.detach(), **{n: p.grad for n, p in named if p.grad is not None}}


def worker(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = {}
    for variant in VARIANTS:
        found[variant] = loss_and_gradients(variant, rank)
        for value in found[variant].values():
            dist.all_reduce(value)
            value.div_(2)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow  # tests/training/test_distributed.py trains it so, too
def test_two_processes_compute_the_loss_and_gradient_of_one_with_the_whole_batch(tmp_path):
    torch.multiprocessing.spawn(worker, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for variant in VARIANTS:
            expected = loss_and_gradients(variant)
            torch.testing.assert_close(found[variant], expected, atol=1e-8, rtol=1e-6)


def test_where_all_crops_overlap_the_negative_part_has_no_bound():
    method, batch = build(variant="released"), a_batch()
    batch.geometry["position_labels_BNK"] = torch.tensor([0.1, 0.2, 0.3, 0.4]).expand(2, 3, 4)
    assert set(method.constant_loss(batch)) == {"positive"}


def test_the_teachers_encoder_takes_as_few_crops_at_a_time(monkeypatch):
    method, seen = build(variant="released", crops_at_once=3), []
    for encoder in (method.encoder, method.placement.teacher_encoder):
        embed = encoder.embed
        monkeypatch.setattr(
            encoder, "embed", lambda x, embed=embed: seen.append(len(x)) or embed(x)
        )
    method.loss(a_batch(), progress=0.0)
    assert seen == [3, 3, 3, 3, 2] * 2


def test_rows_that_depend_on_each_other_are_not_taken_a_few_at_a_time():
    encoder = SegResNetEncoder.Config(width=4, blocks=(1, 1), norm="batch").build()
    with pytest.raises(ConfigError, match=r"method\.crops_at_once takes a few rows"):
        VoCo.Config.tiny().model_copy(update={"crops_at_once": 2}).build(encoder=encoder)


def test_a_grid_of_one_cell_is_refused():
    with pytest.raises(ValidationError, match="choose two cells at least"):
        VoCo.Config(views=GridViews(grid=(1, 1, 1)))


@pytest.mark.parametrize("variant", ["paper", "released", "large_scale"])
def test_crops_a_few_at_a_time_have_the_loss_and_the_gradients_of_all(variant):
    found = []
    for at_once in (None, 3):
        torch.manual_seed(7)
        method = build(variant=variant, crops_at_once=at_once).double()
        torch.manual_seed(8)  # of what is dropped
        batch = a_batch()
        batch = batch._replace(views_BCIJK=[x_BCIJK.double() for x_BCIJK in batch.views_BCIJK])
        total = method.loss(batch, progress=0.0).total
        total.backward()
        gradients = [p.grad for p in method.parameters() if p.grad is not None]
        found.append([total.detach(), *gradients])
    for whole_batch, in_parts in zip(*found, strict=True):
        torch.testing.assert_close(in_parts, whole_batch, rtol=0, atol=1e-10)
