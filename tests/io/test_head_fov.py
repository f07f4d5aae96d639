import numpy as np
import pytest

from medssl.io.dicom.read import read_dicom_folder
from medssl.io.head_fov import head_fov, upright_mm
from medssl.io.volume import Volume


def volume(length_mm, turned=False):
    affine = np.diag([1.0, 1.0, length_mm / 10, 1.0])
    affine = affine[:, [2, 0, 1, 3]] if turned else affine
    shape = (10, 4, 4) if turned else (4, 4, 10)
    return Volume(array_IJK=np.zeros(shape, np.int16), affine_ras=affine, modality="CT")


@pytest.mark.parametrize(
    ("body_part", "length_mm", "expected"),
    [
        ("head", 200, "yes"),
        ("whole_body", 1800, "yes"),
        ("head_neck", 300, "yes"),
        ("", 300, "possible"),
        ("neck", 200, "possible"),
        ("spine", 200, "possible"),
        ("chest", 350, "no"),
        ("chest", 600, "possible"),
        ("abdomen", 400, "no"),
        ("limb", 200, "possible"),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_a_head_is_never_called_none(body_part, length_mm, expected, turned):
    assert head_fov(body_part, upright_mm(volume(length_mm, turned))) == expected


@pytest.mark.parametrize(
    ("folder", "allowed"),
    [
        ("dicom-series/ge_head_ct_tilt", {"yes"}),
        ("dicom-cases/multi-echo/2_me_FieldMap_GRE", {"yes", "possible"}),
        ("dicom-cases/decubitus-right/2_t1_fl2d_sag", {"yes", "possible"}),
        ("dicom-cases/enhanced/XA10", {"yes", "possible"}),
        ("dicom-series/acrin_chest_ct", {"no"}),
        ("dicom-series/prostatex0000_t2_tra", {"no"}),
    ],
)
def test_real_heads_are_never_called_none(folder, allowed, shared):
    source = shared / "data" / folder
    if not source.is_dir():
        pytest.skip(f"{folder} is not in 'shared'")
    for volume in read_dicom_folder(source):
        parts = {header.body_part for header in volume.slices}
        assert {head_fov(part, upright_mm(volume.volume)) for part in parts} <= allowed
