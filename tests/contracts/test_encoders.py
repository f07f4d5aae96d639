"""Every encoder keeps the promises of medssl.models.encoders.base; new files are picked up."""

from contextlib import nullcontext

import pytest
import torch
from monai.bundle import ConfigParser
from torch.nn.modules.instancenorm import _InstanceNorm

from medssl.config.choice import available, find
from medssl.errors import ConfigError
from medssl.models.encoders.base import upsampled
from medssl.models.weights import load_decoder, load_encoder, save_encoder

ENCODERS = available("medssl.models.encoders")


@pytest.fixture(params=ENCODERS)
def encoder(request):
    torch.manual_seed(0)
    return find("medssl.models.encoders", request.param).Config.tiny().build().eval()


def volume(encoder, batch=2):
    """Noise, some of the coarsest map's voxels wide; fewer where each spans very many."""
    cells = (3, 2, 4) if max(encoder.strides) < 32 else (2, 1, 2)
    shape = [max(encoder.strides) * n for n in cells[: encoder.dims]]
    return torch.randn(batch, encoder.config.in_channels, *shape)


def test_features_are_a_pyramid_of_the_promised_shapes(encoder):
    x_BCIJK = volume(encoder)
    maps = encoder.features(x_BCIJK)
    assert len(maps) == len(encoder.channels) == len(encoder.strides)
    assert list(encoder.strides) == sorted(encoder.strides)
    for level, channels, stride in zip(maps, encoder.channels, encoder.strides, strict=True):
        assert level.shape == (2, channels, *(size // stride for size in x_BCIJK.shape[2:]))


def test_the_embedding_has_the_promised_length(encoder):
    assert encoder.embed(volume(encoder)).shape == (2, encoder.embed_dim)


def test_the_embedding_is_pooled_from_the_maps(encoder):
    x_BCIJK = volume(encoder)
    assert torch.equal(encoder.embed(x_BCIJK), encoder.pool(encoder.features(x_BCIJK)))


def test_rows_do_not_see_each_other(encoder):
    x_BCIJK = volume(encoder.double()).double()  # norms over few voxels magnify rounding
    torch.testing.assert_close(encoder.embed(x_BCIJK)[:1], encoder.embed(x_BCIJK[:1]))


def test_what_is_hidden_is_not_seen(encoder):
    x_BCIJK = volume(encoder)
    visible_BIJK = torch.rand(2, *(n // max(encoder.strides) for n in x_BCIJK.shape[2:])) > 0.5
    hidden = 1 - upsampled(visible_BIJK, x_BCIJK)
    maps = encoder.masked_features(x_BCIJK, visible_BIJK)
    others = encoder.masked_features(x_BCIJK + hidden * torch.randn_like(x_BCIJK), visible_BIJK)
    assert [m.shape for m in maps] == [m.shape for m in encoder.features(x_BCIJK)]
    assert all(torch.equal(a, b) for a, b in zip(maps, others, strict=True))


def test_one_voxel_of_the_coarsest_map_is_enough_or_the_error_says_so(encoder):
    x_BCIJK = torch.randn(2, encoder.config.in_channels, *[max(encoder.strides)] * encoder.dims)
    normed = any(isinstance(m, _InstanceNorm) for m in encoder.modules())
    with pytest.raises(ConfigError, match="normed over space") if normed else nullcontext():
        assert all(level.isfinite().all() for level in encoder.train().features(x_BCIJK))


def test_stages_hold_every_weight_once_in_the_order_of_the_data(encoder):
    held = [weight for stage in encoder.stages() for weight in stage.parameters()]
    assert len({id(w) for w in held}) == len(held)
    assert {id(w) for w in held} == {id(w) for w in encoder.parameters()}
    order = []
    hooks = [
        stage.register_forward_hook(lambda *_, n=n: order.append(n))
        for n, stage in enumerate(encoder.stages())
    ]
    encoder.features(volume(encoder))
    for hook in hooks:
        hook.remove()
    assert [n for n in order if any(True for _ in encoder.stages()[n].parameters())] == [
        n for n, stage in enumerate(encoder.stages()) if any(True for _ in stage.parameters())
    ]


def test_decoder_maps_get_finer_and_end_on_the_grid_of_the_input(encoder):
    x_BCIJK = volume(encoder)
    decoder = encoder.decoder()
    maps = decoder(encoder.features(x_BCIJK))
    assert [m.shape[1] for m in maps] == list(decoder.channels)
    assert maps[-1].shape[2:] == x_BCIJK.shape[2:]
    sizes = [m.shape[2] for m in maps]
    assert sizes == sorted(sizes)


def test_the_segmenter_holds_this_encoder_and_monai_can_build_it_from_its_definition(encoder):
    network, definition = encoder.segmenter(3)
    held = {value.data_ptr() for value in network.state_dict().values()}
    assert all(value.data_ptr() in held for value in encoder.state_dict().values())
    parser = ConfigParser({"network": definition})
    again = parser.get_parsed_content("network")
    again.load_state_dict(network.state_dict())
    x_BCIJK = volume(encoder, batch=1)
    expected = network.eval()(x_BCIJK)
    assert expected.shape == (1, 3, *x_BCIJK.shape[2:])
    assert torch.equal(again.eval()(x_BCIJK), expected)


def test_the_segmenter_takes_a_trained_decoder_and_draws_only_what_is_new(encoder):
    decoder = encoder.decoder()
    for weight in decoder.parameters():
        weight.data.fill_(0.25)
    network, _ = encoder.segmenter(3, decoder)
    held = {value.data_ptr() for value in network.state_dict().values()}
    assert all(weight.data_ptr() in held for weight in decoder.parameters())
    fresh, _ = encoder.segmenter(3)
    assert {k: v.shape for k, v in fresh.state_dict().items()} == {
        k: v.shape for k, v in network.state_dict().items()
    }


def test_its_state_survives_safetensors(encoder, tmp_path):
    save_encoder(tmp_path, encoder, decoder=encoder.decoder())
    again, _ = load_encoder(tmp_path)
    x_BCIJK = volume(encoder)
    assert torch.equal(again.eval().embed(x_BCIJK), encoder.embed(x_BCIJK))
    assert load_decoder(tmp_path, again) is not None


def test_the_last_layer_makes_the_segmenters_logits_of_the_decoders_finest_map(encoder):
    decoder = encoder.decoder().eval()
    network, _ = encoder.segmenter(3, decoder)
    x_BCIJK = volume(encoder)
    with torch.no_grad():
        finest = decoder(encoder.features(x_BCIJK))[-1]
        assert torch.equal(encoder.last_layer(network)(finest), network.eval()(x_BCIJK))
