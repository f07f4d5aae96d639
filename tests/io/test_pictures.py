"""Pictures as grey pixels: every kind of PNG and JPEG, and what is none."""

import io

import numpy as np
import pytest
from PIL import Image

from medssl.errors import RejectedFileError
from medssl.io.pictures import read_grey


def saved(tmp_path, picture, name="a.png"):
    picture.save(tmp_path / name)
    return tmp_path / name


@pytest.fixture
def rgb():
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def luminance(rgb):
    """BT.601 written out, in float64."""
    return rgb.astype(np.float64) @ [0.299, 0.587, 0.114]


def test_grey_is_taken_as_it_is(tmp_path, rgb):
    found = read_grey(saved(tmp_path, Image.fromarray(rgb[..., 0])))
    np.testing.assert_array_equal(found, rgb[..., 0])
    assert found.dtype == np.uint8


def test_sixteen_bits_stay(tmp_path):
    deep = np.array([[0, 300], [40000, 65535]], np.uint16)
    found = read_grey(saved(tmp_path, Image.fromarray(deep)))
    np.testing.assert_array_equal(found, deep)
    assert found.dtype == np.uint16


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK"])
def test_colours_become_luminance(tmp_path, rgb, mode):
    name = "a.jpg" if mode == "CMYK" else "a.png"
    even = np.full_like(rgb, (200, 40, 90))  # JPEG keeps one colour nearly as it is
    pixels = even if mode == "CMYK" else rgb
    found = read_grey(saved(tmp_path, Image.fromarray(pixels).convert(mode), name))
    np.testing.assert_allclose(found, luminance(pixels), atol=3 if mode == "CMYK" else 1)


def test_a_palette_becomes_its_colours(tmp_path):
    palette = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), mode="P")
    palette.putpalette([10, 10, 10, 250, 250, 250])
    np.testing.assert_array_equal(read_grey(saved(tmp_path, palette)), [[10, 250], [250, 10]])


def test_black_and_white_become_0_and_255(tmp_path):
    bits = Image.fromarray(np.array([[True, False]]))
    np.testing.assert_array_equal(read_grey(saved(tmp_path, bits)), [[255, 0]])


@pytest.mark.parametrize("damage", ["cut", "text", "gif", "missing"])
def test_what_is_no_picture_is_refused_without_its_name(tmp_path, rgb, damage):
    path = tmp_path / "Doe_Jane.png"
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, format="GIF" if damage == "gif" else "PNG")
    content = {"cut": buffer.getvalue()[:60], "text": b"no picture", "gif": buffer.getvalue()}
    if damage != "missing":
        path.write_bytes(content[damage])
    with pytest.raises(RejectedFileError) as caught:
        read_grey(path)
    assert "Doe" not in str(caught.value)
