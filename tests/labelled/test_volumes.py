import numpy as np
import pytest
from PIL import Image

from medssl.errors import RejectedFileError
from medssl.io.volume import Volume
from medssl.labelled.volumes import read_image_file, read_label_file
from tests.labelled.examples import MR_T2, SHIPPED, affine, phantom, write_picture


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA"])
def test_a_picture_is_one_slice_with_the_luminance_of_its_colours(mode, tmp_path):
    path = write_picture(tmp_path / "a.png", 3, mode, size=(5, 4))
    volume = read_image_file(path, "CT")
    with Image.open(path) as picture:
        pixels = np.atleast_3d(np.asarray(picture)).astype(float)
    weights = (0.299, 0.587, 0.114) if "RGB" in mode else (1,)
    for x in range(5):
        for y in range(4):
            grey = sum(w * band for w, band in zip(weights, pixels[y, x], strict=False))
            assert abs(float(volume.array_IJK[x, y, 0]) - grey) <= 1
    assert volume.shape == (5, 4, 1)
    assert volume.spacing_mm == (1, 1, 1)
    assert volume.affine_ras[:3, :3].tolist() == [[-1, 0, 0], [0, -1, 0], [0, 0, 1]]
    assert (volume.modality, volume.intensity) == ("CT", "arbitrary")


def test_pictures_of_sixteen_bits_keep_them(tmp_path):
    pixels = np.array([[0, 300], [4095, 65535]], np.uint16)
    Image.fromarray(pixels).save(tmp_path / "deep.png")
    volume = read_image_file(tmp_path / "deep.png", "CT")
    assert volume.array_IJK.dtype == np.uint16
    assert volume.array_IJK[:, :, 0].T.tolist() == pixels.tolist()


def test_a_palette_means_colours_in_an_image_and_numbers_in_a_label_map(tmp_path):
    picture = Image.new("P", (3, 1))
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    picture.putdata([0, 1, 2])
    picture.save(tmp_path / "p.png")
    image = read_image_file(tmp_path / "p.png", "CT")
    assert image.array_IJK.ravel().tolist() == [0, 76, 150]
    label = read_label_file(tmp_path / "p.png", image)
    assert label.array_IJK.ravel().tolist() == [0, 1, 2]


def test_colours_are_no_label_map(tmp_path):
    path = write_picture(tmp_path / "a.png", 0, "RGB")
    with pytest.raises(RejectedFileError, match="a grey picture, or one with a palette"):
        read_label_file(path, read_image_file(path, "CT"))


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_damaged_picture_is_rejected(name, tmp_path):
    path = write_picture(tmp_path / name, 0, size=(50, 50))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(RejectedFileError):
        read_image_file(path, "CT")
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(RejectedFileError):
        read_image_file(path, "CT")


def test_a_picture_larger_than_any_scan_is_not_unpacked(tmp_path, monkeypatch):
    path = write_picture(tmp_path / "a.png", 0, size=(50, 50))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    with pytest.raises(RejectedFileError):
        read_image_file(path, "CT")


def test_other_files_are_rejected_with_what_is_read(tmp_path):
    (tmp_path / "a.mha").write_bytes(b"")
    with pytest.raises(RejectedFileError, match=r"only .nii, .nii.gz, .png, .jpg, .jpeg"):
        read_image_file(tmp_path / "a.mha", "CT")


def test_a_folder_holds_one_dicom_series(tmp_path):
    assert read_image_file(MR_T2, "unknown").modality == "MR"
    with pytest.raises(RejectedFileError, match="one DICOM series, it holds 3"):
        read_image_file(SHIPPED / "dicom", "unknown")
    with pytest.raises(RejectedFileError, match="one DICOM series, it holds 0"):
        read_image_file(tmp_path, "unknown")


def test_a_volume_that_is_not_in_its_library_is_rejected(tmp_path):
    with pytest.raises(RejectedFileError, match="is not in the library"):
        read_image_file(tmp_path / "volumes" / "aa.b2nd", "CT")


def test_a_label_map_is_laid_along_the_axes_of_its_image(tmp_path):
    label = write_picture(tmp_path / "l.png", 0, size=(12, 14))
    turned = np.diag([1.0, -1.0, 1.0, 1.0])
    image = Volume(array_IJK=phantom(0)[0][:, :, :1], affine_ras=turned, modality="CT")
    own = read_label_file(label)
    assert np.array_equal(read_label_file(label, image).array_IJK, own.array_IJK[::-1])
    assert affine()[0, 0] == -1  # the pictures' own axes
