import numpy as np
import pytest

from medssl.io.volume import Volume

ARRAY = np.zeros((3, 4, 5), np.int16)


def make(**changes):
    return Volume(**({"array_IJK": ARRAY, "affine_ras": np.eye(4), "modality": "CT"} | changes))


def test_a_volume_knows_its_shape_and_spacing():
    volume = make(affine_ras=np.diag([-2.0, 3.0, 0.5, 1.0]))
    assert volume.shape == (3, 4, 5)
    assert volume.spacing_mm == (2.0, 3.0, 0.5)
    assert volume.intensity == "arbitrary"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"array_IJK": np.zeros((3, 4), np.int16)}, "three axes"),
        ({"array_IJK": np.zeros((3, 0, 4), np.int16)}, "three axes"),
        ({"array_IJK": np.zeros((3, 4, 5), np.int64)}, "cannot hold int64"),
        ({"array_IJK": np.zeros((3, 4, 5), ">i2")}, "cannot hold >i2"),
        ({"affine_ras": np.eye(3)}, "float64 matrix"),
        ({"affine_ras": np.eye(4, dtype=np.float32)}, "float64 matrix"),
        ({"affine_ras": np.full((4, 4), np.nan)}, "float64 matrix"),
        ({"affine_ras": np.diag([1.0, 1.0, 0.0, 1.0])}, "invertible"),
        ({"affine_ras": np.diag([1.0, 1.0, 1.0, 2.0])}, "invertible"),
        ({"intensity": "HU"}, "no such intensity"),
    ],
)
def test_a_volume_that_breaks_its_promises_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)
