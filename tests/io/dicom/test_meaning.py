import numpy as np
import pytest

from medssl.io.dicom.meaning import suspicious_hounsfield
from medssl.io.dicom.read import read_dicom_folder
from tests import phantoms

AFFINE = phantoms.affine_ras()


def chest(shape=(40, 40, 40)):
    """Air around a body of fat and tissue, with noise."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    radius = np.sqrt((grid**2).sum(axis=0))
    array = np.where(radius < 0.7, 40, np.where(radius < 0.85, -100, -1000))
    return (array + np.random.default_rng(0).normal(0, 15, shape)).astype(np.int16)


@pytest.mark.parametrize(
    ("array", "flags"),
    [
        (chest(), []),
        (chest() + 1024, ["no_negative_hu"]),
        (chest() + 300, ["air_not_minus_1000"]),
        (np.where(chest() < -500, -2000, chest()), []),  # padding, and no air in view
        (np.full((8, 8, 8), -3000, np.int16), ["no_negative_hu"]),
    ],
)
def test_shifted_values_are_noticed(array, flags):
    assert suspicious_hounsfield(array) == flags


def test_the_flag_reaches_the_volume(tmp_path):
    phantoms.write_dicom(tmp_path, chest((12, 12, 12)) + 300, AFFINE)
    (found,) = read_dicom_folder(tmp_path)
    assert found.volume.intensity == "hu"
    assert "air_not_minus_1000" in found.flags
