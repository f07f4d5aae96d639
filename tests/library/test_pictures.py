import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread

from medssl.io.volume import Volume
from medssl.library.pictures import SIZE_PX, three_planes
from tests.curation.libraries import blobs


def decoded(uri):
    head, _, data = uri.partition(",")
    assert head == "data:image/png;base64"
    return imread(io.BytesIO(base64.b64decode(data)))[..., 0]


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
    image = decoded(three_planes(bright(corner)))
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
    image = decoded(three_planes(volume))
    assert image.shape[0] == SIZE_PX
    i_mm, j_mm, _ = (n * mm for n, mm in zip(volume.shape, spacing_mm, strict=True))
    longest_mm = max(n * mm for n, mm in zip(volume.shape, spacing_mm, strict=True))
    wanted = (2 * i_mm + j_mm) / longest_mm * SIZE_PX + 12
    assert abs(image.shape[1] - wanted) <= 3


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_volume_without_content_has_a_picture(value):
    array = np.full((5, 5, 5), value, dtype=np.float32)
    volume = Volume(array_IJK=array, affine_ras=np.eye(4), modality="MR", intensity="arbitrary")
    assert decoded(three_planes(volume)).shape[0] == SIZE_PX
