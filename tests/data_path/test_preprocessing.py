import nibabel
import numpy as np
import pytest
import torch
from monai.transforms import Invertd

from medssl.config.load import validate
from medssl.data.preprocessing import (
    PreprocessingConfig,
    as_metatensor,
    build,
    compose,
    in_memory,
    with_label,
)
from medssl.errors import ConfigError, InputError

SPACING_MM = (1.5, 1.0, 2.0)


def config(intensity=None):
    tree = {"spacing_mm": SPACING_MM, "intensity": intensity or {"name": "mr"}}
    return validate(PreprocessingConfig, tree, where="test")


def volume(shape=(13, 11, 9)):
    """Return noise on an LPS grid with a spacing of its own."""
    rng = np.random.default_rng(0)
    affine = np.diag([-0.9, -1.3, 2.2, 1.0])
    affine[:3, 3] = (5, -7, 11)
    return rng.integers(0, 1000, shape).astype(np.int16), affine


def test_the_network_sees_ras_axes_at_the_asked_spacing_and_values_in_0_1():
    array, affine = volume()
    data = compose(in_memory(config().specs()))({"image": as_metatensor(array, affine)})
    image = data["image"]
    assert image.dtype == torch.float32
    assert image.shape[0] == 1
    assert np.allclose(np.linalg.norm(image.affine[:3, :3], axis=0), SPACING_MM)
    assert nibabel.aff2axcodes(image.affine.numpy()) == ("R", "A", "S")
    assert (image.min().item(), image.max().item()) == pytest.approx((0, 1))


def test_a_file_read_by_monai_and_a_volume_in_memory_become_the_same_input(tmp_path, recwarn):
    array, affine = volume()
    affine = affine.astype(np.float32).astype(np.float64)  # as a file keeps it
    nibabel.save(nibabel.Nifti1Image(array, affine), tmp_path / "scan.nii")
    specs = config().specs()
    theirs = compose(specs)({"image": str(tmp_path / "scan.nii")})["image"]
    mine = compose(in_memory(specs))({"image": as_metatensor(array, affine)})["image"]
    assert torch.equal(theirs.as_tensor(), mine.as_tensor())
    assert all("NvImgCodec" in str(warning.message) for warning in recwarn)


def test_mr_becomes_percentiles_like_its_float64_twin():
    array, affine = volume()
    affine = np.diag([*SPACING_MM, 1.0])  # nothing to resample
    image = compose(in_memory(config().specs()))({"image": as_metatensor(array, affine)})["image"]
    low, high = np.percentile(array.astype(np.float64), (0.5, 99.5))
    twin = np.clip((array - low) / (high - low), 0, 1)
    assert np.allclose(image[0].numpy(), twin, atol=1e-6)


def test_ct_becomes_a_window_like_its_float64_twin():
    array, _ = volume()
    intensity = {"name": "ct", "window_hu": [-100, 300]}
    image = compose(in_memory(config(intensity).specs()))(
        {"image": as_metatensor(array, np.diag([*SPACING_MM, 1.0]))}
    )["image"]
    twin = np.clip((array.astype(np.float64) + 100) / 400, 0, 1)
    assert np.allclose(image[0].numpy(), twin, atol=1e-6)


def test_a_label_map_follows_its_image_without_new_values():
    array, affine = volume()
    label = (array > 500).astype(np.uint8) * 2
    data = compose(with_label(in_memory(config().specs())))(
        {"image": as_metatensor(array, affine), "label": as_metatensor(label, affine)}
    )
    assert data["label"].shape == data["image"].shape
    assert set(data["label"].unique().tolist()) == {0.0, 2.0}


def test_the_way_back_ends_on_the_grid_it_came_from():
    array, affine = volume()
    forward = compose(in_memory(config().specs()))
    data = forward({"image": as_metatensor(array, affine)})
    data["pred"] = torch.ones_like(data["image"])
    back = Invertd(keys="pred", transform=forward, orig_keys="image", nearest_interp=False)(data)
    assert back["pred"].shape[1:] == array.shape
    assert np.allclose(back["pred"].affine, affine)
    assert torch.allclose(back["pred"].as_tensor(), torch.tensor(1.0))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"_target_": "os.system", "command": "true"}, "which is not one of"),
        ({"_target_": "Lambdad", "keys": "image", "func": "$print"}, "which is not one of"),
        ({}, "which is not one of"),
        ({"_target_": "EnsureTyped", "keys": "$__import__('os')"}, "never evaluated"),
        ({"_target_": "Invertd", "keys": "pred", "transform": "@elsewhere"}, "never evaluated"),
        ({"_target_": "EnsureTyped", "keys": "%/etc/passwd"}, "never evaluated"),
    ],
)
def test_only_allowed_names_and_plain_values_become_objects(spec, said):
    with pytest.raises(InputError, match=said):
        build(spec)


def test_an_unknown_intensity_is_explained():
    with pytest.raises(ConfigError, match=r"unknown name 'mri'.*Did you mean 'mr'"):
        config({"name": "mri"})
