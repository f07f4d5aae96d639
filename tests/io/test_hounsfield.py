import numpy as np
import pytest

from medssl.io.hounsfield import looks_like_hounsfield


@pytest.fixture
def body():
    """Air, fat, muscle and bone in plausible parts."""
    rng = np.random.default_rng(0)
    parts = {-1000: 4000, -100: 2500, 50: 3000, 700: 500}
    values = np.concatenate([rng.normal(hu, 30, count) for hu, count in parts.items()])
    return np.rint(values).astype(np.int16)


def test_a_body_in_hounsfield_units(body):
    assert looks_like_hounsfield(body)
    assert looks_like_hounsfield(np.concatenate([body, np.full(5000, -2000)]))  # padding
    assert looks_like_hounsfield(body[body > -200])  # no air in the field of view


def test_numbers_that_are_something_else(body):
    shifted = body + 1024
    windowed = np.clip((body + 160) / 400, 0, 1)
    assert not looks_like_hounsfield(shifted)
    assert not looks_like_hounsfield(np.concatenate([shifted, np.full(5000, -2000)]))
    assert not looks_like_hounsfield(windowed)
    assert not looks_like_hounsfield(windowed * 255)
    assert not looks_like_hounsfield(body.astype(float) * 16)
    assert not looks_like_hounsfield(np.full(100, -1000))
    assert not looks_like_hounsfield(np.full(100, -3000))


def test_the_shipped_scans_agree(shipped):
    from medssl.io.nifti import read_nifti

    for path in sorted((shipped / "nifti").rglob("*.nii.gz")):
        volume = read_nifti(path)
        assert looks_like_hounsfield(volume.array_IJK) == (path.parent.name == "ct"), path.name


def test_a_large_volume_is_judged_as_its_sample_is():
    large = np.full((400, 200, 200), -1000, np.int16)
    assert not looks_like_hounsfield(large)
    large[100:300, 50:150, 50:150] = 40
    assert looks_like_hounsfield(large)
    assert not looks_like_hounsfield(large + np.int16(1024))
