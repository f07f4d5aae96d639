import numpy as np
import pytest

from medssl.export.verify import VerificationError, check_expressions, oblique_phantom
from medssl.training.task_model import read_description
from tests.finetuned import finetuned


def test_the_phantom_is_odd_oblique_and_larger_than_a_patch():
    about = read_description(finetuned() / "pretrained")
    array, affine = oblique_phantom(about)
    assert all(size % 2 for size in array.shape)
    assert np.count_nonzero(np.abs(affine[:3, :3]) > 1e-6) > 5
    steps = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    assert np.allclose(steps.T @ steps, np.eye(3))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    assert np.all(array.shape * spacing > np.multiply(about.patch_voxels, about.spacing_mm))


def test_a_bundle_that_reaches_further_is_refused():
    check_expressions({"_target_": "SegResNetDS", "inner": {"_target_": "torch.nn.ReLU"}})
    with pytest.raises(VerificationError, match=r"'os\.system' reaches for os\.system"):
        check_expressions({"network": {"_target_": "os.system"}})
