"""Masked modelling as a module: what each way of hiding hides, what is trained, what is kept."""

import copy

import pytest
import torch
from pydantic import ValidationError

from medssl.data.appearance import AppearanceConfig
from medssl.data.augment import never
from medssl.data.crop_views import CropViews
from medssl.data.masked_views import MaskedViews
from medssl.data.masking import MaskConfig
from medssl.errors import ConfigError
from medssl.methods.mae import MAE
from medssl.models.attention import BlockSize
from medssl.models.encoders.base import upsampled
from medssl.models.encoders.unet import UNetEncoder
from medssl.models.encoders.vit import ViTEncoder
from medssl.models.reconstruction import StageMask, TokenReconstruction, voxels_of
from medssl.training.stages import checkpoint_stages
from tests.regions import smooth_batch

ENCODERS = {"sparse": UNetEncoder, "zero": UNetEncoder, "drop": ViTEncoder, "token": ViTEncoder}


def views(dims=3, **mask):
    crops = CropViews(
        dims=dims, crop_voxels=16, crops=1, spread=1, appearance=never(AppearanceConfig)
    )
    return MaskedViews(crops=crops, mask=MaskConfig(**{"cell_voxels": 4, **mask}))


def build(way="sparse", dims=3, **options):
    torch.manual_seed(0)
    tiny = ENCODERS[way].Config.tiny().model_dump(exclude={"name"})
    if ENCODERS[way] is UNetEncoder:
        tiny |= {"channels": (8, 16, 16), "depths": (1, 1, 1)}
    encoder = ENCODERS[way].Config(**{**tiny, "dims": dims}).build()
    masking = "zero" if way == "token" else way
    config = MAE.Config.tiny().model_copy(update={"views": views(dims), "masking": masking})
    return config.model_copy(update=options).build(encoder=encoder)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("way", ENCODERS)
def test_the_reconstruction_knows_nothing_of_what_is_hidden(way, dims):
    method = build(way, dims).eval()
    batch = smooth_batch(method.views)
    x, visible = batch.views_BCIJK[0], batch.geometry["visible_0_BNIJK"].flatten(0, 1)
    hidden = 1 - upsampled(visible, x)
    told = method.reconstruct(batch)
    other = method.reconstruct(batch._replace(views_BCIJK=[x + hidden * torch.randn_like(x)]))
    assert told.shape == x.shape
    assert torch.equal(told, other)
    assert not torch.equal(told, method.reconstruct(batch._replace(views_BCIJK=[x + 0.1])))


@pytest.mark.parametrize("way", ENCODERS)
def test_every_weight_is_trained(way):
    method = build(way)
    method.loss(smooth_batch(method.views), progress=0.0).total.backward()
    idle = [name for name, p in method.named_parameters() if p.grad is None]
    assert not idle


@pytest.mark.parametrize("way", ENCODERS)
def test_it_learns_more_than_the_best_constant(way):
    method = build(way)
    batch = smooth_batch(method.views, volumes=2)
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        output = method.loss(batch, progress=0.0)
        output.total.backward()
        optimizer.step()
    assert float(output.total.detach()) < 0.9 * method.constant_loss(batch)["reconstruction"]


def test_features_of_hidden_places_are_zero_after_every_stage_and_only_when_hidden():
    torch.manual_seed(0)
    encoder = UNetEncoder.Config(channels=(4, 8, 8), depths=(1, 1, 1)).build()
    x, visible = torch.randn(1, 1, 16, 16, 16), torch.rand(1, 2, 2, 2) > 0.5
    usual, mask, seen = encoder.features(x), StageMask(encoder), []
    for stage in encoder.stages():
        stage.register_forward_hook(lambda *a: seen.append(a[2]))
    with mask.hiding(visible):
        encoder.features(x)
    assert len(seen) == 4  # the empty stem too
    for level in seen:
        assert (level * (1 - upsampled(visible, level)) == 0).all()
        assert level.abs().sum() > 0
    again = encoder.features(x)
    assert all(torch.equal(a, b) for a, b in zip(usual, again, strict=True))


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # from inside the compiler
@pytest.mark.parametrize("prepare", ["compiled", "recomputed"])
def test_compiled_and_recomputed_stages_hide_what_each_batch_hides(prepare):
    method = build("sparse")
    plain = copy.deepcopy(method)
    if prepare == "recomputed":
        checkpoint_stages(method)
    else:
        for stage in method.encoder.stages():
            stage.compile(backend="eager")
    for seed in range(3):
        batch = smooth_batch(method.views, seed=seed)
        outputs = [m.loss(batch, progress=0.0).total for m in (method, plain)]
        torch.testing.assert_close(outputs[0], outputs[1])
        for of, output in zip((method, plain), outputs, strict=True):
            of.zero_grad()
            output.backward()
        for a, b in zip(method.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad)
        x = batch.views_BCIJK[0]
        torch.testing.assert_close(method.encoder.embed(x), plain.encoder.embed(x))


@pytest.mark.parametrize("keep", [True, False])
def test_the_decoder_is_kept_when_asked_for(keep):
    method = build("sparse", keep_decoder=keep)
    assert (method.decoder is not None) == keep
    method.loss(smooth_batch(method.views), progress=0.0).total.backward()
    decoders = [m for m in method.modules() if type(m).__name__ == "UNetDecoder"]
    assert len(decoders) == 1
    assert all(p.grad is not None for p in decoders[0].parameters())


def test_dropped_tokens_are_never_computed():
    method, rows = build("drop"), []
    method.encoder.net.blocks[0].register_forward_hook(lambda _, a, __: rows.append(a[0].shape[1]))
    method.loss(smooth_batch(method.views), progress=0.0)
    tokens, registers = 4**3, 1
    assert rows == [registers + tokens - round(0.6 * tokens)]


def test_normalised_cells_have_a_best_constant_of_one():
    method = build(target="cells")
    batch = smooth_batch(method.views)
    assert method.constant_loss(batch)["reconstruction"] == pytest.approx(1, abs=0.05)
    assert method.loss(batch, progress=0.0).total.isfinite()


def test_absolute_errors_have_their_own_constant():
    method = build(error="l1")
    batch = smooth_batch(method.views)
    assert 0 < method.constant_loss(batch)["reconstruction"] < 1
    assert method.loss(batch, progress=0.0).total.isfinite()


def test_patches_of_voxels_are_put_where_they_belong():
    x = torch.arange(2 * 6 * 4 * 2.0).view(2, 1, 6, 4, 2)
    grid, patches = (3, 2, 1), []
    for index in torch.cartesian_prod(*(torch.arange(n) for n in grid)).tolist():
        box = tuple(slice(2 * i, 2 * i + 2) for i in index)
        patches.append(x[(slice(None), 0, *box)].flatten(1))
    assert torch.equal(voxels_of(torch.stack(patches, 1), grid, 2), x)


def test_mask_tokens_stand_where_nothing_was_seen():
    size = BlockSize(width=24, heads=2, mlp_ratio=2.0)
    module = TokenReconstruction(8, 2, 3, depth=0, size=size, rotary_base=100.0)
    visible = torch.tensor([[True, False, False, True]])
    out = module(torch.randn(1, 2, 8), visible, (4, 1, 1))
    patches = out.view(4, -1)
    assert torch.equal(patches[1], patches[2])
    assert not torch.equal(patches[0], patches[1])


@pytest.mark.parametrize(
    ("way", "options", "message"),
    [
        ("sparse", {"masking": "drop"}, "masking is drop"),
        ("drop", {"masking": "sparse"}, "masking is sparse"),
        ("sparse", {"views": views(cell_voxels=1)}, "make it a multiple of 4"),
        ("sparse", {"views": views(ratio=(0.1, 0.5))}, "unequally many"),
        ("zero", {"views": views(ratio=(0.001, 0.001))}, "hides 0 of the"),
        ("drop", {"views": views(ratio=(0.999, 0.999))}, "nothing to tell it from"),
        ("sparse", {"views": views(ratio=(1.0, 1.0))}, "use smaller cells"),
        ("drop", {"decoder_width": 20}, "make it a multiple of 12"),
    ],
)
def test_settings_that_do_not_fit_the_encoder_are_refused(way, options, message):
    with pytest.raises(ConfigError, match=message):
        build(way, **options)


def test_small_crops_that_nothing_would_look_at_are_refused():
    crops = CropViews(crop_voxels=16, local_crops=1, local_voxels=4)
    with pytest.raises(ValidationError, match="would not look at them"):
        MAE.Config(views=MaskedViews(crops=crops, mask=MaskConfig(cell_voxels=4)))
