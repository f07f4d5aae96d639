"""Teacher and student as a module: who sees what, what lags, what a checkpoint holds."""

import copy
import math

import pytest
import torch

from medssl.data.crop_views import CropViews
from medssl.data.masked_views import MaskedViews
from medssl.data.masking import MaskConfig
from medssl.errors import ConfigError
from medssl.methods.dino import DINO
from medssl.models.encoders.unet import UNetEncoder
from medssl.models.encoders.vit import ViTEncoder
from medssl.models.prototypes import Centre, PrototypeHead
from tests.regions import smooth_batch

SIZES = {
    UNetEncoder: {"channels": (4, 8, 8), "depths": (1, 1, 1), "decoder_convs": 1},
    ViTEncoder: ViTEncoder.Config.tiny().model_dump(exclude={"name"}),
}
SMALL = {"hidden_dim": 32, "bottleneck_dim": 16, "prototypes": 24}


def views(dims=3, local=2, crops=2, **mask):
    cut = CropViews(
        dims=dims, crop_voxels=16, spread=1.25, crops=crops, local_crops=local, local_voxels=8
    )
    hide = {"cell_voxels": 4, "ratio": (0.2, 0.5), "shape": "blocks", **mask}
    return MaskedViews(crops=cut, mask=MaskConfig(**hide))


def build(kind=UNetEncoder, spec=None, dims=3, **options):
    torch.manual_seed(0)
    encoder = kind.Config(**{**SIZES[kind], "dims": dims}).build()
    config = DINO.Config(views=spec or views(dims), **{**SMALL, **options})
    return config.build(encoder=encoder)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", SIZES)
def test_every_weight_of_the_student_is_trained_and_none_of_the_teacher(kind, dims):
    method = build(kind, dims=dims)
    output = method.loss(smooth_batch(method.views), progress=0.0)
    output.total.backward()
    assert set(output.parts) == {"dino", "ibot", "koleo"}
    idle = [name for name, p in method.named_parameters() if p.requires_grad and p.grad is None]
    assert not idle
    assert all(not p.requires_grad for p in method.teacher.parameters())


def test_the_total_is_the_weighted_sum_of_the_parts():
    method = build(dino_weight=0.5, ibot_weight=2.0, koleo_weight=0.3)
    output = method.loss(smooth_batch(method.views), progress=0.0)
    parts = output.parts
    torch.testing.assert_close(
        output.total, 0.5 * parts["dino"] + 2 * parts["ibot"] + 0.3 * parts["koleo"]
    )
    assert set(output.scores) == {"positive_cosine", "negative_cosine", "teacher_entropy"}
    assert 0 <= output.scores["teacher_entropy"] <= math.log(24)


@pytest.mark.parametrize("kind", SIZES)
def test_the_student_does_not_see_what_is_hidden_and_the_teacher_does(kind):
    method = build(kind).eval()
    spec = views(local=0, ratio=(0.5, 0.5))
    batch = smooth_batch(spec)
    visible = batch.geometry["visible_0_BNIJK"].flatten(0, 1)
    hidden = ~visible[:, None]
    for axis in (2, 3, 4):
        hidden = hidden.repeat_interleave(4, axis)
    other = batch._replace(views_BCIJK=[batch.views_BCIJK[0] + hidden * 0.5])
    cells = method._hidden(batch)
    assert torch.equal(cells.view_as(visible), ~visible)
    seen = [method._student(b, cells)[1].token_logits_TP for b in (batch, other)]
    assert torch.equal(*seen)
    known = [method._teacher(b, cells).token_logits_TP for b in (batch, other)]
    assert not torch.allclose(*known)


def test_the_teacher_follows_along_half_a_cosine():
    method = build()
    for weight in (*method.encoder.parameters(), *method.heads.parameters()):
        weight.data.add_(1.0)
    for progress, momentum in ((0.0, 0.992), (0.5, 0.996), (1.0, 1.0)):
        now = copy.deepcopy(method)
        now.before_step(progress=progress)
        for who, of in (("encoder", method.encoder), ("heads", method.heads)):
            for new, old, student in zip(
                now.teacher[who].parameters(),
                method.teacher[who].parameters(),
                of.parameters(),
                strict=True,
            ):
                torch.testing.assert_close(new, momentum * old + (1 - momentum) * student)


def test_the_teacher_begins_as_the_student_and_never_drops():
    method = build(ViTEncoder)
    for block in (*method.encoder.net.blocks, *method.teacher["encoder"].net.blocks):
        block.drop = 0.5
    method.train()
    assert method.encoder.training
    assert not any(part.training for part in method.teacher.modules())
    theirs = method.teacher["encoder"].state_dict()
    assert all(torch.equal(v, theirs[k]) for k, v in method.encoder.state_dict().items())
    method.eval()
    assert not method.encoder.training


@pytest.mark.parametrize(
    ("progress", "temperature"), [(0.0, 0.04), (0.15, 0.055), (0.3, 0.07), (1.0, 0.07)]
)
def test_the_teacher_gets_less_sharp(progress, temperature):
    method = build(centering="softmax")
    rows = torch.randn(5, 24)
    expected = (rows / temperature).softmax(1)
    torch.testing.assert_close(method._assign("crops", rows, progress), expected)


def test_the_centre_is_the_slow_mean_of_training_steps_and_part_of_the_state():
    method = build(centering="softmax", centre_momentum=0.9)
    batch = smooth_batch(method.views)
    teacher = method._teacher(batch, method._hidden(batch))
    first = method.loss(batch, progress=0.0).total
    assert torch.equal(method.loss(batch, progress=0.0).total, first)  # not within a step
    other = build(centering="softmax")
    other.load_state_dict(method.state_dict())
    for of in (method, other):
        of.before_step(progress=0.0)
        mean = teacher.logits_BVP.flatten(0, 1).mean(0)
        torch.testing.assert_close(of.centres["crops"].value_P, 0.1 * mean)
        assert of.centres["crops"].count == 0
    assert not torch.equal(method.loss(batch, progress=0.0).total, first)
    method.eval()
    method.before_step(progress=0.0)
    method.loss(batch, progress=0.0)
    assert method.centres["tokens"].count == 0


def test_without_hidden_tokens_everything_is_seen():
    method = build(ibot_weight=0.0)
    output = method.loss(smooth_batch(method.views), progress=0.0)
    assert set(output.parts) == {"dino", "koleo"}
    assert set(method.heads) == {"crops"}
    assert set(method.constant_loss(smooth_batch(method.views))) == {"dino"}


def test_views_that_happen_to_hide_nothing_are_no_obstacle():
    method = build(spec=views(probability=1e-12))
    output = method.loss(smooth_batch(method.views), progress=0.0)
    output.total.backward()
    assert output.parts["ibot"] == 0
    assert all(p.grad is not None for p in method.heads.parameters())


def test_one_volume_needs_no_neighbour_without_koleo():
    method = build(koleo_weight=0.0)
    output = method.loss(smooth_batch(method.views, volumes=1), progress=0.0)
    assert "negative_cosine" not in output.scores
    with pytest.raises(ValueError, match="two volumes"):
        build().loss(smooth_batch(method.views, volumes=1), progress=0.0)


@pytest.mark.parametrize("kind", SIZES)
def test_it_learns_to_tell_what_a_blind_student_cannot(kind):
    method = build(kind, momentum=0.9, hidden_dim=128, bottleneck_dim=64, prototypes=64)
    batch = smooth_batch(views(local=1), volumes=8)
    trained = [p for p in method.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=3e-3)
    for step in range(60):
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1, (step + 1) / 30)
        method.before_step(progress=step / 60)
        optimizer.zero_grad()
        output = method.loss(batch, progress=step / 60)
        output.total.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
    constant = method.constant_loss(batch)["dino"]
    assert constant == pytest.approx(math.log(64))
    assert float(output.parts["dino"].detach()) < 0.9 * constant
    assert output.scores["positive_cosine"] > output.scores["negative_cosine"] + 0.1


def test_heads_return_unit_vectors_and_cosines():
    head = PrototypeHead(6, 8, 4, 5, layers=3, batch_norm=False)
    z, cosines = head(torch.randn(7, 6))
    torch.testing.assert_close(z.norm(dim=1), torch.ones(7))
    for n in range(7):
        for p, prototype in enumerate(head.prototypes):
            expected = torch.dot(z[n], prototype) / prototype.norm()
            torch.testing.assert_close(cosines[n, p], expected)
    assert [type(part).__name__ for part in head.mlp] == ["Linear", "GELU"] * 2 + ["Linear"]


def test_batch_norm_takes_out_what_all_rows_share():
    torch.manual_seed(0)
    alike = 5 + 0.01 * torch.randn(16, 6)
    cosines = {}
    for batch_norm in (True, False):
        z, _ = PrototypeHead(6, 32, 16, 5, layers=3, batch_norm=batch_norm).eval()(alike)
        cosines[batch_norm] = float((z @ z.T).detach().mean())
    assert cosines[False] > 0.99
    assert cosines[True] < 0.5


def test_a_centre_that_saw_nothing_stays():
    centre = Centre(2)
    centre.add(torch.tensor([2.0, 4.0]), torch.tensor(2.0))
    centre.step(0.5)
    assert centre.value_P.tolist() == [0.5, 1.0]
    centre.step(0.5)
    assert centre.value_P.tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spec": views(local=0, crops=1)}, "none to compare it with"),
        ({"spec": views(cell_voxels=2)}, "make it a multiple of 4"),
    ],
)
def test_settings_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build(**options)


@pytest.mark.parametrize("keep", ["teacher", "student"])
def test_the_encoder_that_is_kept_is_the_one_asked_for(keep):
    config = DINO.Config.tiny().model_copy(update={"keep": keep})
    method = config.build(encoder=UNetEncoder.Config.tiny().build())
    own = {"teacher": method.teacher["encoder"], "student": method.encoder}
    assert method.kept_encoder is own[keep]


def test_hidden_tokens_of_views_that_never_hide_any_are_refused():
    for never in ({"probability": 0.0}, {"ratio": (0.0, 0.001)}):
        with pytest.raises(ConfigError, match="never hides a cell"):
            build(spec=views(**never))
        build(spec=views(**never), ibot_weight=0.0)
