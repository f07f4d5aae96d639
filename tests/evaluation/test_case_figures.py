import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from medssl.evaluation.case_figures import Row, _draw_row, look_at, save_rows, turned
from medssl.evaluation.packed import PackedMasks
from medssl.io.volume import Volume
from tests.finetuned import affine


def volume(shape=(40, 30, 8), spacing_mm=(1.0, 2.0, 5.0), axes=(-1, -1, 1)):
    array = np.random.default_rng(0).normal(100, 20, shape).astype(np.float32)
    return Volume(array_IJK=array, affine_ras=affine(spacing_mm, axes), modality="MR")


def box(where, shape=(40, 30, 8)):
    mask = np.zeros(shape, np.bool_)
    mask[where] = True
    return mask


def test_planes_go_through_where_most_is_marked():
    marked = box(np.s_[10:14, 20:22, 3]) | box(np.s_[12, 21, 5])
    seen = look_at(volume(axes=(1, 1, 1)), (0, 1), marked_RAS=marked)
    assert seen.centre[2] == 3
    assert seen.centre[0] == 12
    assert look_at(volume(), (0, 1)).centre == (20, 15, 4)


def test_what_is_framed_is_shown_with_what_is_around_it():
    shape = (300, 300, 60)
    seen = look_at(
        volume(shape, (1.0, 1.0, 3.0), (1, 1, 1)),
        (0, 1),
        framed_RAS=box(np.s_[100:200, 290:300, 30], shape),
    )
    assert (seen.box[0].start, seen.box[0].stop) == (75, 225)  # 25 mm on either side
    assert seen.box[1].stop == 300
    assert 300 - seen.box[1].start == 55  # 100 mm at least, where there are as many
    assert (seen.box[2].stop - seen.box[2].start) * 3 >= 100


@pytest.mark.parametrize("axes", [(1, 1, 1), (-1, 1, -1)])
def test_masks_turn_with_their_image(axes):
    scan = volume(axes=axes)
    mask = scan.array_IJK > 130
    seen = look_at(scan, (0, 1))
    np.testing.assert_array_equal(turned(scan, mask[None])[0], seen.image_RAS > 130)


def drawn(row):
    figure = Figure(figsize=(9, 4))
    _draw_row(figure, row)
    return figure.axes


def test_planes_have_the_proportions_of_the_body():
    axes = drawn(Row(title="x", seen=look_at(volume(), (0, 200))))
    extents = [panel.images[0].get_extent() for panel in axes]
    assert extents == [[0, 40, 60, 0], [0, 40, 40, 0], [0, 60, 40, 0]]
    assert all(panel.get_aspect() == 1 for panel in axes)
    assert [text.get_text() for text in axes[0].texts][:5] == ["R", "L", "A", "P", "axial"]
    assert axes[0].images[0].get_clim() == (0, 200)


def test_an_outline_lies_around_its_mask():
    scan = volume(axes=(1, 1, 1))
    mask = box(np.s_[10:20, 5:10, 2:4])
    seen = look_at(scan, (0, 200), marked_RAS=mask)
    axes = drawn(Row(title="x", seen=seen, reference_CRAS=mask[None], predicted_CRAS=mask[None]))
    corners = np.concatenate([path.vertices for path in axes[0].collections[0].get_paths()])
    # in mm from the upper left: the right of the patient, and the front, come first
    np.testing.assert_allclose(corners.min(axis=0), [40 - 20, 60 - 20], atol=0.51)
    np.testing.assert_allclose(corners.max(axis=0), [40 - 10, 60 - 10], atol=0.51)
    styles = [panel.get_linestyle() for panel in axes[0].collections]
    assert styles[0] != styles[1]


def test_what_the_border_cuts_is_closed_there():
    scan = volume(axes=(1, 1, 1))
    mask = box(np.s_[30:, :, :])
    seen = look_at(scan, (0, 200), marked_RAS=mask)
    axes = drawn(Row(title="x", seen=seen, reference_CRAS=mask[None]))
    (path,) = axes[0].collections[0].get_paths()
    assert len(path.to_polygons()) == 1


def test_rows_become_one_picture_whatever_they_show(tmp_path):
    mask = box(np.s_[10:20, 5:10, 2:4])
    scan = volume()
    flat = volume((30, 20, 1))
    rows = [
        Row(title="plain", seen=look_at(scan, (0, 200))),
        Row(
            title="outlined",
            seen=look_at(scan, (0, 200), framed_RAS=mask),
            reference_CRAS=np.stack([mask, mask]),
            predicted_CRAS=np.zeros((2, 40, 30, 8), np.bool_),
            names=("one", "two"),
        ),
        Row(title="a single slice", seen=look_at(flat, (0, 200))),
    ]
    save_rows(tmp_path / "rows.png", rows)
    with Image.open(tmp_path / "rows.png") as picture:
        assert picture.width == 1080
        assert picture.height > 1000


def test_masks_come_out_of_the_packet_as_they_went_in():
    masks = np.random.default_rng(0).random((3, 5, 7, 11)) > 0.7
    np.testing.assert_array_equal(PackedMasks.of(masks).unpacked(), masks)
    empty = np.zeros((2, 64, 64, 64), np.bool_)
    assert len(PackedMasks.of(empty).bits) < 1000
