"""Swin UNETR's encoder: the tensors that were published, and the output that MONAI's own has."""

import pytest
import torch
from monai.networks.nets.swin_unetr import SwinUNETR
from pydantic import ValidationError

from medssl.errors import ConfigError
from medssl.models.encoders.swin_unetr import SwinUNETREncoder
from tests.models.layouts import decoder_table, swin_table

PUBLISHED = {
    48: (53_164_146, 72_762_999),
    96: (211_999_362, 290_392_695),
    192: (847_276_194, 1_160_845_431),
}


def on_paper(size, **options):
    """Return the encoder and its decoder without memory for their weights."""
    with torch.device("meta"):
        encoder = SwinUNETREncoder.Config(feature_size=size, **options).build()
        return encoder, encoder.decoder()


def shapes(module):
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


@pytest.mark.parametrize("size", PUBLISHED)
def test_names_and_shapes_are_the_published_ones(size):
    encoder, decoder = on_paper(size)
    assert shapes(encoder) == swin_table(size)
    assert shapes(decoder) == decoder_table(size)
    assert len(shapes(encoder)) == 145
    assert len(shapes(encoder)) + len(shapes(decoder)) + 2 == 167  # the last two are the classes'


@pytest.mark.parametrize(("size", "published"), PUBLISHED.items())
def test_it_has_as_many_weights_as_published(size, published):
    encoder, decoder = on_paper(size)
    alone = sum(p.numel() for p in encoder.parameters())
    classes = 21 * size + 21
    assert (alone, alone + sum(p.numel() for p in decoder.parameters()) + classes) == published
    assert encoder.embed_dim == 24 * size


def test_without_v2_there_are_no_blocks_before_the_stages():
    encoder, _ = on_paper(48, use_v2=False)
    assert shapes(encoder) == {k: v for k, v in swin_table(48).items() if "c.0.layer" not in k}


@pytest.mark.parametrize("use_v2", [True, False])
@pytest.mark.parametrize("dims", [2, 3])
def test_same_weights_same_output_as_monais_own(dims, use_v2):
    torch.manual_seed(0)
    config = SwinUNETREncoder.Config(
        dims=dims, feature_size=12, depths=(2, 1, 1, 1), window=3, use_v2=use_v2, in_channels=2
    )
    theirs = SwinUNETR(
        in_channels=2, out_channels=3, feature_size=12, depths=(2, 1, 1, 1), window_size=3,
        use_v2=use_v2, spatial_dims=dims,
    ).eval()  # fmt: skip
    encoder = config.build().eval()
    network, _ = encoder.segmenter(3)
    network.eval().load_state_dict(theirs.state_dict())  # strict: into the encoder's own tensors
    x_BCIJK = torch.randn(1, 2, *(64, 32, 96)[:dims])
    expected = theirs(x_BCIJK)
    torch.testing.assert_close(network(x_BCIJK), expected)
    decoder = encoder.decoder()
    decoder.load_state_dict(
        {k: v for k, v in theirs.state_dict().items() if k.startswith("decoder")}
    )
    last = decoder.eval()(encoder.features(x_BCIJK))[-1]
    torch.testing.assert_close(network.out(last), expected)


def test_the_embedding_is_the_mean_of_each_blocks_map():
    torch.manual_seed(0)
    encoder = SwinUNETREncoder.Config.tiny().build().eval()
    x_BCIJK = torch.randn(2, 1, 64, 32, 32)
    hidden = encoder.swinViT(x_BCIJK)
    maps = [
        encoder.encoder1(x_BCIJK),
        encoder.encoder2(hidden[0]),
        encoder.encoder3(hidden[1]),
        encoder.encoder4(hidden[2]),
        encoder.encoder10(hidden[4]),
    ]
    expected = torch.cat([level.mean((2, 3, 4)) for level in maps], 1)
    torch.testing.assert_close(encoder.embed(x_BCIJK), expected)
    assert expected.shape == (2, 24 * 12)


def test_a_grid_it_cannot_read_is_explained():
    encoder = SwinUNETREncoder.Config.tiny().build()
    with pytest.raises(ConfigError, match="multiple of 32"):
        encoder.features(torch.zeros(1, 1, 64, 48, 64))


def test_heads_must_share_the_channels():
    with pytest.raises(ValidationError, match="stage 1 has 12 channels, which 5 heads"):
        SwinUNETREncoder.Config(feature_size=12, heads=(5, 6, 12, 24))
