"""Bit for bit what imagehash says, by products and in machine code."""

import imagehash
import numpy as np
import pytest
from PIL import Image

from medssl.library.fingerprints.dhash64 import dhash64, min_max_8_bit, resize_rows, thumbnails
from medssl.library.fingerprints.dhash64_compiled import resize_rows as compiled

GOLDEN = ["d393a82854d1a9ae", "aea9d15428a893d3", "1436eaab95546a8a"]
SHAPES = [
    (512, 512), (256, 256), (100, 73), (9, 9), (8, 9), (9, 8), (8, 8), (5, 7), (1, 1), (20, 300),
    (300, 20), (51, 30), (50, 30), (137, 73), (136, 73), (13, 11), (12, 11),
]  # fmt: skip


def images(shape, count=6):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (count, *shape))
    noise[1] = np.sort(noise[1], axis=-1)
    noise[2] = np.where(rng.random(shape) < 0.8, 0, noise[2])
    noise[3] = 255 * (noise[3] > 127)
    noise[4] = 255
    noise[5, : shape[0] // 2] = 0
    return noise.astype(np.uint8)


@pytest.mark.parametrize("resize", [resize_rows, compiled], ids=["products", "compiled"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_thumbnail_is_pillows(shape, resize):
    found = thumbnails(images(shape), resize)
    for image, small in zip(images(shape), found, strict=True):
        pillow = Image.fromarray(image).resize((9, 8), Image.Resampling.LANCZOS)
        np.testing.assert_array_equal(small, np.asarray(pillow))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_hash_is_imagehashs(shape):
    expected = [int(str(imagehash.dhash(Image.fromarray(image))), 16) for image in images(shape)]
    assert dhash64(images(shape)).tolist() == expected


def test_shipped_slices_hash_as_imagehash_does(shipped):
    from medssl.io.nifti import read_nifti

    for path in ("ct/tsct_p01_body.nii.gz", "mr/btp_p01_t2.nii.gz"):
        array_IJK = read_nifti(shipped / "nifti" / path, "CT").array_IJK
        planes = min_max_8_bit(np.moveaxis(array_IJK, 2, 0))
        expected = [int(str(imagehash.dhash(Image.fromarray(plane))), 16) for plane in planes]
        assert dhash64(planes).tolist() == expected


def test_golden_hashes():
    rows, columns = np.indices((64, 48))
    waves = ((rows * 7 + columns * columns) % 256).astype(np.uint8)
    planes = np.stack([waves, waves[::-1], waves[:, ::-1]])
    assert [f"{value:016x}" for value in dhash64(planes).tolist()] == GOLDEN


@pytest.mark.parametrize("dtype", ["int16", "uint16", "uint8", "float32", "int32"])
def test_min_max_is_rounded_down_and_survives_a_constant_plane(dtype):
    plane = np.array([[10, 20], [30, 73]], dtype)
    found = min_max_8_bit(np.stack([plane, np.full_like(plane, 7)]))
    assert found.tolist() == [[[0, 40], [80, 255]], [[0, 0], [0, 0]]]


def test_the_widest_range_does_not_overflow():
    plane = np.array([[-32768, 32767], [0, -1]], np.int16)
    assert min_max_8_bit(plane[None]).tolist() == [[[0, 255], [127, 127]]]


def test_images_that_cannot_be_written_to_are_hashed():
    given = images((40, 40))
    kept = given.copy()
    kept.setflags(write=False)
    assert dhash64(kept).tolist() == dhash64(given).tolist()
