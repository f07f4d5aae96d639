"""Tensors of another shape are fitted exactly; what only looks as if it fitted is not taken."""

from itertools import product

import pytest
import torch

from medssl.errors import InputError
from medssl.models.fitting import Slot, fitted, inflate, resized_table, spread
from medssl.models.weights import save_encoder
from tests.models import layouts
from tests.models.layouts import check_equal, load, saved, swin, unet, vit


def test_a_stem_of_four_channels_is_the_published_one_repeated_over_four(tmp_path):
    held, encoder = layouts.voco(), swin(in_channels=4)
    report, _ = load(saved(tmp_path, held), encoder)
    stems = ["swinViT.patch_embed.proj.weight", "encoder1.layer.conv1.conv.weight",
             "encoder1.layer.conv3.conv.weight"]  # fmt: skip
    assert report.adapted == dict.fromkeys(stems, "1 to 4 input channels")
    assert report.share == 1
    state = encoder.state_dict()
    for name in stems:
        assert torch.equal(state[name], held[name].repeat(1, 4, 1, 1, 1) / 4)


def test_four_equal_channels_give_what_one_gave(tmp_path):
    one, four = swin().eval(), swin(in_channels=4).eval()
    path = saved(tmp_path, one.state_dict())
    load(path, four)
    x_BCIJK = torch.randn(1, 1, 64, 32, 32)
    torch.testing.assert_close(
        four.embed(x_BCIJK.expand(-1, 4, -1, -1, -1)), one.embed(x_BCIJK), rtol=1e-3, atol=1e-3
    )


def test_a_width_is_never_taken_for_input_channels(tmp_path):
    held = {"network_weights": layouts.nnunet((6, 6, 8))}
    with pytest.raises(InputError, match="only"):
        load(saved(tmp_path, held), unet(channels=(4, 6, 8)))


def test_spread_of_several_channels_keeps_the_answer_to_equal_ones():
    kernel = torch.randn(5, 3, 3, 3, 3, dtype=torch.float64)
    wide = spread(kernel, 7)
    assert wide.shape == (5, 7, 3, 3, 3)
    x = torch.randn(1, 1, 4, 4, 4, dtype=torch.float64)
    conv = torch.nn.functional.conv3d
    torch.testing.assert_close(
        conv(x.expand(-1, 7, -1, -1, -1), wide), conv(x.expand(-1, 3, -1, -1, -1), kernel)
    )


def test_kernels_for_slices_become_kernels_for_volumes(tmp_path):
    flat, encoder = unet(dims=2), unet()
    decoder = flat.decoder()
    save_encoder(tmp_path, flat, decoder=decoder)
    report, read = load(tmp_path, encoder)
    assert report.share == 1
    assert all("2D to 3D" in words for words in report.adapted.values())
    mine, theirs = encoder.state_dict(), flat.state_dict()
    for name in report.adapted:
        expected = theirs[name][..., None].repeat(1, 1, 1, 1, 3) / 3
        torch.testing.assert_close(mine[name], expected)
    assert read is not None


@pytest.mark.parametrize("raising", [False, True])
def test_an_inflated_kernel_answers_to_equal_slices_as_the_flat_one(raising):
    kernel = torch.randn(3, 2, 2, 2, dtype=torch.float64)
    x = torch.randn(1, 3 if raising else 2, 6, 6, dtype=torch.float64)
    volume = x[..., None].expand(-1, -1, -1, -1, 4)
    functional = torch.nn.functional
    flat, deep = (
        (functional.conv_transpose2d, functional.conv_transpose3d)
        if raising
        else (functional.conv2d, functional.conv3d)
    )
    expected = flat(x, kernel, stride=2)
    for level in deep(volume, inflate(kernel, 2, raising=raising), stride=2).unbind(-1):
        torch.testing.assert_close(level, expected)


def test_position_tables_take_another_window(tmp_path):
    held, encoder = layouts.voco(), swin(window=5)
    report, _ = load(saved(tmp_path, held), encoder)
    tables = [name for name in held if name.endswith("bias_table")]
    indices = [name for name in held if name.endswith("position_index")]
    assert {name: report.adapted[name] for name in tables} == dict.fromkeys(
        tables, "window 7 to 5x5x5"
    )
    assert set(report.adapted) == {*tables, *indices}
    state, own = encoder.state_dict(), swin(window=5).state_dict()
    assert all(torch.equal(state[name], own[name]) for name in indices)
    for name in tables[:2]:
        torch.testing.assert_close(state[name], slow_table(held[name], 7, 5), rtol=1e-4, atol=1e-5)


def slow_table(table_PH, old, new):
    """Interpolate a table of relative positions, one distance after the other."""
    old_side, new_side = 2 * old - 1, 2 * new - 1
    grid = table_PH.double().reshape(old_side, old_side, old_side, -1)
    rows = []
    for place in product(range(new_side), repeat=3):
        row = torch.zeros(table_PH.shape[1], dtype=torch.float64)
        for corner in product((0, 1), repeat=3):
            weight, at = 1.0, []
            for p, up in zip(place, corner, strict=True):
                exact = p * (old_side - 1) / (new_side - 1)
                low = min(int(exact), old_side - 2)
                at.append(low + up)
                weight *= (exact - low) if up else 1 - (exact - low)
            row += weight * grid[tuple(at)]
        rows.append(row)
    return torch.stack(rows).float()


def test_a_resized_table_keeps_its_middle_and_its_ends():
    table = torch.arange(13.0**3)[:, None]
    again = resized_table(table, (7, 7, 7), (5, 5, 5))
    assert again.shape == (9**3, 1)
    assert [again[0].item(), again[9**3 // 2].item(), again[-1].item()] == pytest.approx(
        [0, 13**3 // 2, 13**3 - 1]
    )


def test_a_table_of_places_takes_another_grid(tmp_path):
    path = saved(tmp_path, vit(learned_grid=4).state_dict())
    same_grid, other = vit(learned_grid=4), vit(learned_grid=6)
    load(path, same_grid)
    report, _ = load(path, other)
    assert report.adapted == {"net.patches.places": "grid 4x4x4 to 6x6x6"}
    theirs = same_grid.state_dict()["net.patches.places"]
    expected = torch.nn.functional.interpolate(theirs, (6, 6, 6), mode="trilinear")
    assert torch.equal(other.state_dict()["net.patches.places"], expected)


def index_of(state):
    return {name: value for name, value in state.items() if name.endswith("position_index")}


def test_the_index_of_a_window_is_the_one_that_monai_builds():
    for name, value in index_of(swin().state_dict()).items():
        assert torch.equal(value, layouts.position_index(7)), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int16])
def test_the_index_of_a_file_that_was_cast_as_a_whole_is_not_taken(tmp_path, dtype):
    source, encoder = swin(), swin()
    held = source.state_dict()
    indices = index_of(held)
    cast = dtype.is_floating_point
    held = {k: v.to(dtype) if cast or k in indices else v for k, v in held.items()}
    report, _ = load(saved(tmp_path, held), encoder)
    state = encoder.state_dict()
    assert all(torch.equal(state[name], value) for name, value in indices.items())
    kept = dict.fromkeys(indices, "kept, it follows from the window")
    assert report.adapted == (kept if cast else {})  # int16 holds the index as it is
    assert report.share == 1


def test_whole_numbers_are_not_taken_for_weights(tmp_path):
    held, encoder = layouts.voco(), swin()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    held = {k: (10 * v).to(torch.int8) if v.is_floating_point() else v for k, v in held.items()}
    with pytest.raises(InputError, match=r"only 0\.0%[^Z]*torch\.int8 in the file, torch\.float32"):
        load(saved(tmp_path, held), encoder)
    check_equal(encoder, before)
    weight = torch.ones(3, 1, 2, 2, dtype=torch.int8)
    assert fitted(weight, Slot(torch.zeros(3, 1, 2, 2, 2), "kernel")) is None


@pytest.mark.parametrize("window", [5, 7])
def test_a_table_of_slices_is_not_taken_for_one_of_volumes_that_is_as_long(tmp_path, window):
    flat, encoder = swin(dims=2, window=14), swin(window=window)
    tables = [name for name in flat.state_dict() if name.endswith("bias_table")]
    report, _ = load(saved(tmp_path, flat.state_dict()), encoder, min_loaded=0.5)
    assert set(tables) <= set(report.mismatched)
    told = report.mismatched[tables[0]]
    expected = {
        5: "(729, 3) in both, but for windows with another number of axes",
        7: "(729, 3) in the file, (2197, 3) here",
    }
    assert told == expected[window]


def test_a_table_without_its_index_is_read_for_as_many_axes_as_here(tmp_path):
    held = {k: v for k, v in layouts.voco().items() if not k.endswith("index")}
    report, _ = load(saved(tmp_path, held), swin(window=5))
    assert set(report.adapted.values()) == {"window 7 to 5x5x5"}
    assert report.share == 1


@pytest.mark.parametrize("shape", [(512, 3), (), (2196, 3), (729,)])
def test_what_is_no_table_of_a_window_does_not_fit(shape):
    slot = Slot(torch.zeros(2197, 3), "window table", window=(7, 7, 7))
    assert fitted(torch.ones(shape), slot) is None
