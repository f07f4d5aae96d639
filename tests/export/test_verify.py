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


@pytest.mark.parametrize(
    "text",
    [
        "$torch.device('cpu')",
        "$@network_def.to(@device)",
        "$[{'image': path} for path in @datalist]",
        "$@a#b#c + '/models/model.pt'",
        "plain text with os.system in it",
    ],
)
def test_expressions_of_monai_and_torch_are_fine(text):
    check_expressions({"a": [{"b": text}]})


@pytest.mark.parametrize(
    "text",
    [
        "$__import__('os').system('true')",
        "$open('/etc/passwd').read()",
        "$os.listdir('.')",
        "$[eval(x) for x in @a]",
        "$(lambda torch: exec)(1)",
        "$getattr(monai, 'x')",
        "$torch.__builtins__",
    ],
)
def test_expressions_that_reach_further_are_refused(text):
    with pytest.raises(VerificationError, match="reaches for"):
        check_expressions({"a": [{"b": text}]})


def test_targets_are_monais_or_torchs():
    check_expressions({"_target_": "SegResNetDS", "inner": {"_target_": "torch.nn.ReLU"}})
    with pytest.raises(VerificationError, match=r"reaches for os\.system"):
        check_expressions({"network": {"_target_": "os.system"}})
