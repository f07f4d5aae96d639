import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from medssl.io.volume import Volume
from medssl.library.pictures import SIZE_PX, data_uri, three_planes
from tests.curation.libraries import blobs


def drawn(volume, p01=0.0, p99=1000.0):
    """The picture, from 0 to 1."""
    return np.asarray(Image.open(io.BytesIO(three_planes(volume, p01, p99)))) / 255


def bright(corner):
    """A volume that is dark but for the octant towards the named directions."""
    array = np.zeros((20, 20, 20), dtype=np.int16)
    octant = tuple(slice(10, None) if letter in "RAS" else slice(None, 10) for letter in corner)
    array[octant] = 1000
    return Volume(array_IJK=array, affine_ras=np.eye(4), modality="MR", intensity="arbitrary")


@pytest.mark.parametrize(
    ("corner", "axial", "coronal"),
    [("RAS", ("top", "left"), ("top", "left")), ("LPS", ("bottom", "right"), ("top", "right"))],
)
def test_right_is_left_and_front_and_head_are_up(corner, axial, coronal):
    image = drawn(bright(corner))
    third = image.shape[1] // 3
    axial_panel, coronal_panel = image[:, :third], image[:, third : 2 * third]

    def corner_of(panel):
        rows, columns = np.nonzero(panel > 0.5)
        middle = panel.shape[0] / 2, panel.shape[1] / 2
        return (
            "top" if rows.mean() < middle[0] else "bottom",
            "left" if columns.mean() < middle[1] else "right",
        )

    # Planes go through voxel 10, which lies in the half towards right, front and head.
    if corner == "RAS":
        assert corner_of(axial_panel) == axial
        assert corner_of(coronal_panel) == coronal
    else:
        assert corner_of(axial_panel) == axial


@pytest.mark.parametrize("spacing_mm", [(1, 1, 1), (1, 1, 6), (0.4, 2, 9)])
def test_panels_have_one_height_and_true_proportions(spacing_mm):
    volume = replace(blobs(0), affine_ras=np.diag([*map(float, spacing_mm), 1.0]))
    image = drawn(volume)
    assert image.shape[0] == SIZE_PX
    i_mm, j_mm, _ = (n * mm for n, mm in zip(volume.shape, spacing_mm, strict=True))
    longest_mm = max(n * mm for n, mm in zip(volume.shape, spacing_mm, strict=True))
    wanted = (2 * i_mm + j_mm) / longest_mm * SIZE_PX + 12
    assert abs(image.shape[1] - wanted) <= 3


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_volume_without_content_has_a_picture(value):
    array = np.full((5, 5, 5), value, dtype=np.float32)
    volume = Volume(array_IJK=array, affine_ras=np.eye(4), modality="MR", intensity="arbitrary")
    assert drawn(volume, 0.0, 0.0).shape[0] == SIZE_PX


@pytest.mark.parametrize(("p99", "shown"), [(300.0, 500 / 1200), (-900.0, 1.0)])
def test_hounsfield_units_have_a_window_unless_all_of_it_is_air(p99, shown):
    """A CT of nothing but air would be black in the window that shows lungs and bone."""
    array = np.full((6, 6, 6), -200 if p99 > 0 else -900, np.int16)
    volume = Volume(array_IJK=array, affine_ras=np.eye(4), modality="CT", intensity="hu")
    np.testing.assert_allclose(drawn(volume, -1000, p99), shown, atol=0.01)


def test_a_picture_is_an_image_of_a_page_and_none_is_none():
    head, _, data = data_uri(three_planes(bright("RAS"), 0, 1000)).partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(data).startswith(b"\x89PNG")
    assert data_uri(b"") == ""
