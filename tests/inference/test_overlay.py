import numpy as np
from matplotlib.figure import Figure

from medssl.inference.overlay import Panel, draw, most_labelled_slice, save_grid
from tests.finetuned import affine


def test_the_slice_with_most_labels_is_counted_from_the_feet():
    mask = np.zeros((4, 4, 6), np.uint8)
    mask[:, :, 1] = 1
    mask[0, 0, 4] = 1
    assert most_labelled_slice(mask, affine()) == 1
    assert most_labelled_slice(mask, affine(axes=(-1, -1, -1))) == 4
    assert most_labelled_slice(np.zeros((4, 4, 6), np.uint8), affine()) == 3


def test_the_patients_right_is_on_the_left_and_the_front_is_up():
    image = np.zeros((5, 5, 5), np.int16)
    image[-1, -1, 2] = 9  # RAS+: the last along i is rightmost, along j frontmost
    axes = Figure().subplots()
    panel = Panel(
        title="", image_IJK=image, mask_IJK=None, affine_ras=affine(axes=(1, 1, 1)), slice_k=2
    )
    draw(axes, panel, classes=2)
    shown = axes.images[0].get_array()
    assert shown[-1, 0] == 9
    assert axes.images[0].origin == "lower"


def test_rows_of_unequal_length_become_one_picture(tmp_path):
    image = np.arange(125, dtype=np.int16).reshape(5, 5, 5)
    panel = Panel(
        title="x", image_IJK=image, mask_IJK=(image > 60).astype(np.uint8),
        affine_ras=affine(), slice_k=2,
    )  # fmt: skip
    save_grid(tmp_path / "grid.png", [[panel, panel], [panel]], ("background", "one"))
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")


def test_a_panel_alone_looks_the_same_and_holds_one_slice():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 99, (6, 5, 4)).astype(np.int16)
    mask = (image > 60).astype(np.uint8)
    panel = Panel(title="x", image_IJK=image, mask_IJK=mask, affine_ras=affine(), slice_k=2)
    alone = panel.alone()
    assert alone.image_IJK.shape == (6, 5, 1)
    assert not np.shares_memory(alone.image_IJK, image)
    shown = []
    for each in (panel, alone):
        axes = Figure().subplots()
        draw(axes, each, classes=2)
        shown.append([picture.get_array() for picture in axes.images])
    assert all(np.array_equal(one, other) for one, other in zip(*shown, strict=True))
