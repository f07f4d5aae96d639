"""The vision transformer: attention in loops, rotary distances, masks, places on other grids."""

import math

import pytest
import torch
from pydantic import ValidationError

from medssl.models.attention import (
    Attention,
    Block,
    BlockSize,
    Rotation,
    drop_path,
    grid_positions,
    pick,
    rotated,
    rotation,
    seen_first,
)
from medssl.models.encoders.vit import ViTEncoder
from medssl.models.vit import on_grid

SIZE = BlockSize(width=24, heads=2, mlp_ratio=2.0)


def tiny(**options):
    torch.manual_seed(0)
    config = ViTEncoder.Config.tiny()
    return ViTEncoder.Config(**{**config.model_dump(exclude={"name"}), **options}).build().eval()


def slow_rotated(x, position, base):
    """One token of one head: every pair turned by its own angle, axis by axis."""
    pairs, axes = len(x) // 2, len(position)
    count, turned = pairs // axes, list(x)
    for axis in range(axes):
        for step in range(count):
            p = axis * count + step
            angle = position[axis] * base ** (-step / count)
            a, b = x[p], x[p + pairs]
            turned[p] = a * math.cos(angle) - b * math.sin(angle)
            turned[p + pairs] = a * math.sin(angle) + b * math.cos(angle)
    return turned


def slow_attention(module, x_ND, positions, base):
    """Token by token, head by head, in float64."""
    width, heads = x_ND.shape[1], module.heads
    dim = width // heads
    qkv = (x_ND @ module.qkv.weight.T + module.qkv.bias).tolist()
    out = torch.zeros(len(x_ND), width, dtype=torch.float64)
    for head in range(heads):
        q, k, v = (
            [row[part * width + head * dim : part * width + (head + 1) * dim] for row in qkv]
            for part in range(3)
        )
        q = [slow_rotated(row, p, base) for row, p in zip(q, positions, strict=True)]
        k = [slow_rotated(row, p, base) for row, p in zip(k, positions, strict=True)]
        for n, query in enumerate(q):
            scores = [
                sum(a * b for a, b in zip(query, key, strict=True)) / math.sqrt(dim) for key in k
            ]
            weights = [math.exp(s - max(scores)) for s in scores]
            for weight, value in zip(weights, v, strict=True):
                share = weight / sum(weights)
                out[n, head * dim : (head + 1) * dim] += share * torch.tensor(value).double()
    return out @ module.proj.weight.T + module.proj.bias


def test_attention_is_its_definition():
    torch.manual_seed(0)
    module = Attention(SIZE).double()
    x_BND = torch.randn(2, 12, 24, dtype=torch.float64)
    positions = grid_positions((2, 2, 3), x_BND.device)
    turn = Rotation(*(part.double() for part in rotation(positions.double(), 12, 100.0)))
    found = module(x_BND, turn)
    for row, x_ND in zip(found, x_BND, strict=True):
        expected = slow_attention(module, x_ND, positions.tolist(), 100.0)
        torch.testing.assert_close(row, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 2)])
def test_rotated_products_depend_on_distances_alone(shape):
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 24)
    here = grid_positions(shape, q.device)
    shifted = here + torch.tensor([3.0, -2.0, 5.0])[: len(shape)]
    products = []
    for positions in (here, shifted):
        turn = rotation(positions, 24, 100.0)
        everywhere = len(positions)
        products.append(
            rotated(q.expand(-1, -1, everywhere, -1), turn)
            @ rotated(k.expand(-1, -1, everywhere, -1), turn).mT
        )
    torch.testing.assert_close(products[0], products[1], rtol=1e-4, atol=1e-4)
    assert products[0].std() > 0.1  # other distances, other products


def test_an_encoder_with_rotary_positions_sees_no_absolute_place_and_one_with_a_table_does():
    x = torch.randn(1, 1, 4, 4, 4)
    pair, far = torch.zeros(2, 1, 1, 16, 4, 4)
    pair[..., 0:4, :, :], far[..., 8:12, :, :] = x, x
    for positions, same in (("rotary", True), ("learned", False)):
        encoder = tiny(positions=positions, registers=0, maps=1)
        # all other patches are alike, so only the distances of tokens to each other could tell
        alone = [
            encoder.net.visible_tokens(v, torch.tensor([[n == m for m in range(4)]]))
            for v, n in ((pair, 0), (far, 2))
        ]
        assert torch.allclose(alone[0], alone[1], atol=1e-5) == same


def test_positions_are_in_the_order_of_flattened_maps():
    grid = (2, 3, 4)
    index_IJK = torch.arange(24).view(grid)
    for n, place in enumerate(grid_positions(grid, index_IJK.device).long().tolist()):
        assert index_IJK[tuple(place)] == n


def test_learned_places_are_taken_as_they_are_and_resized_linearly():
    table = torch.arange(4.0).view(1, 1, 4, 1, 1).expand(1, 2, 4, 4, 4)
    same = on_grid(table, torch.Size((4, 4, 4)))
    assert torch.equal(same, table.flatten(2).transpose(1, 2))
    half = on_grid(table, torch.Size((2, 2, 2)))[0, :, 0].view(2, 2, 2)
    torch.testing.assert_close(half[:, 0, 0], torch.tensor([0.5, 2.5]))


@pytest.mark.parametrize("positions", ["rotary", "learned", "both"])
@pytest.mark.parametrize("dims", [2, 3])
def test_dropping_nothing_gives_the_last_map(positions, dims):
    encoder = tiny(positions=positions, dims=dims, learned_grid=2, width=24, registers=2)
    x = torch.randn(2, 1, *(12, 8, 16)[:dims])
    visible = torch.ones(2, *(3, 2, 4)[:dims], dtype=torch.bool)
    tokens_BVD = encoder.visible_tokens(x, visible)
    last = encoder.features(x)[-1]
    torch.testing.assert_close(tokens_BVD, last.flatten(2).transpose(1, 2), atol=1e-5, rtol=1e-4)


def test_visible_tokens_come_in_raster_order_and_ignore_what_is_hidden():
    encoder, x = tiny(), torch.randn(2, 1, 8, 8, 8)
    visible = torch.tensor([[1, 0, 1, 1, 0, 0, 1, 0], [0, 1, 0, 1, 1, 0, 0, 1]]).bool()
    visible_BIJK = visible.view(2, 2, 2, 2)
    tokens = encoder.visible_tokens(x, visible_BIJK)
    assert tokens.shape == (2, 4, 24)
    hidden = (~visible_BIJK)[:, None].float()
    for axis in (2, 3, 4):
        hidden = hidden.repeat_interleave(4, axis)
    assert torch.equal(encoder.visible_tokens(x + hidden, visible_BIJK), tokens)
    # rows and their order: each token is most like the one that all-visible attention gives it
    full = encoder.features(x)[-1].flatten(2).transpose(1, 2)
    expected = torch.stack([full[b][visible[b]] for b in range(2)])
    cosine = torch.nn.functional.cosine_similarity(tokens[:, :, None], expected[:, None], dim=-1)
    assert (cosine.argmax(2) == torch.arange(4)).all()


def test_hidden_patches_become_the_mask_token_which_trains_only_then():
    encoder, x = tiny(), torch.randn(1, 1, 8, 8, 8)
    encoder.features(x)[-1].square().mean().backward()
    token = encoder.net.patches.mask_token
    assert torch.equal(token.grad, torch.zeros_like(token))
    encoder.masked_features(x, torch.zeros(1, 2, 2, 2).bool())[-1][..., 0].sum().backward()
    assert token.grad.abs().sum() > 0


def test_rows_that_see_unequally_many_and_masks_finer_than_patches_are_refused():
    encoder, x = tiny(), torch.randn(2, 1, 8, 8, 8)
    uneven = torch.ones(2, 2, 2, 2).bool()
    uneven[0, 0] = False
    with pytest.raises(ValueError, match="equally many"):
        encoder.visible_tokens(x, uneven)
    with pytest.raises(ValueError, match="does not divide"):
        encoder.masked_features(x, torch.ones(2, 4, 4, 4).bool())
    with pytest.raises(ValueError, match="patches of 4"):
        encoder.features(torch.zeros(1, 1, 9, 8, 8))


def test_picking_what_is_seen():
    visible = torch.tensor([[False, True, True], [True, False, True]])
    places = seen_first(visible)
    assert places.tolist() == [[1, 2], [0, 2]]
    assert pick(torch.arange(6.0).view(2, 3, 1), places).flatten().tolist() == [1, 2, 3, 5]


def test_drop_path_drops_whole_rows_in_training_only_and_keeps_the_mean():
    torch.manual_seed(0)
    x = torch.ones(4000, 2, 3)
    assert drop_path(x, 0.5, training=False) is x
    dropped = drop_path(x, 0.2, training=True)
    assert set(dropped.unique().tolist()) == {0.0, 1.25}
    assert (dropped.flatten(1).std(1) == 0).all()
    assert dropped.mean() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("mlp", ["swiglu", "gelu"])
def test_blocks_begin_near_the_identity_with_a_small_layer_scale(mlp):
    block = Block(SIZE._replace(layer_scale=1e-4, mlp=mlp, qk_norm=True))
    x = torch.randn(2, 5, 24)
    torch.testing.assert_close(block(x), x, atol=1e-2, rtol=0)


def test_maps_are_of_evenly_spaced_depths_and_normed():
    encoder = tiny(depth=12, maps=4)
    assert encoder.net.depths == [3, 6, 9, 12]
    for level in encoder.features(torch.randn(1, 1, 8, 8, 8)):
        torch.testing.assert_close(level.mean(1), torch.zeros(1, 2, 2, 2), atol=1e-5, rtol=0)


def test_weights_are_as_many_as_the_architecture_says_and_cost_nothing_to_count():
    width, depth, hidden = 864, 16, 2304  # Primus-M
    with torch.device("meta"):
        encoder = ViTEncoder.Config(width=width, depth=depth, heads=12).build()
    attention = 4 * width * width + 4 * width
    mlp = 3 * width * hidden + 2 * hidden + width
    block = attention + mlp + 2 * 2 * width + 2 * width  # two norms, two scales
    patches = 8**3 * width + width + width  # with its bias and the mask token
    assert sum(p.numel() for p in encoder.parameters()) == depth * block + patches + 2 * width


def test_the_encoder_works_in_bfloat16():
    encoder = tiny(positions="both", qk_norm=True)
    with torch.autocast("cpu", torch.bfloat16):
        maps = encoder.features(torch.randn(1, 1, 8, 8, 8))
    assert all(level.isfinite().all() for level in maps)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 26}, "must be a multiple of 12"),
        ({"width": 25, "positions": "learned"}, "must be a multiple of 2"),
        ({"maps": 3}, "more than the 2 blocks"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        tiny(**options)
