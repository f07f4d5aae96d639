import nibabel
import numpy as np

from medssl.inference.outputs.nifti import Nifti
from medssl.inference.predicted import Masks, Predicted
from medssl.io.volume import Volume
from medssl.training.task_model import read_description
from tests.finetuned import affine, finetuned, phantom


def predicted(**changes):
    image, label = phantom(3)
    volume = Volume(array_IJK=image, affine_ras=affine((1, 2, 3)), modality="MR")
    masks = Masks(names=("shell", "kernel"), numbers_IJK=label)
    about = read_description(finetuned() / "pretrained")
    given = {"name": "scan", "number": 1, "volume": volume, "masks": masks, "seconds": 0.0}
    return Predicted(**given | {"description": about} | changes)


def test_the_mask_has_the_numbers_and_the_affine_of_the_scan(tmp_path):
    (path,) = Nifti.Config().build().write(predicted(), tmp_path)
    mask = nibabel.load(path)
    assert path == tmp_path / "scan_seg.nii.gz"
    assert mask.get_data_dtype() == np.uint8
    assert np.array_equal(np.asarray(mask.dataobj), phantom(3)[1])
    assert np.array_equal(mask.affine, affine((1, 2, 3)))


def test_answers_about_a_whole_volume_are_no_mask(tmp_path):
    told = predicted(masks=None, answers={"yes": 0.7})
    assert told.labels == ("yes",)
    assert Nifti.Config().build().write(told, tmp_path) == ()
    assert not any(tmp_path.iterdir())


def test_volumes_are_counted_in_millilitres():
    label, told = phantom(3)[1], predicted()
    assert told.voxels == ((label == 1).sum(), (label == 2).sum())
    assert told.volumes_ml["kernel"] == (label == 2).sum() * 0.006
