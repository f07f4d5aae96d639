import json

import nibabel
import numpy as np
import pytest

from medssl.errors import ConfigError
from medssl.evaluation.paired.grounding import GroundingConfig, grounding
from medssl.io.nifti import write_nifti
from tests.evaluation.paired.bright_studies import SAYS, SPACING_MM, has_square, volume

AFFINE = np.diag([*SPACING_MM, 1.0])


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A Decathlon folder of squares, and of one volume without."""
    folder = tmp_path_factory.mktemp("labelled")
    entries = []
    for number in (1, 3, 5, 0):
        image = volume(number, planes=6)
        label = np.zeros(image.shape, np.uint8)
        if has_square(number):
            label[9:14, 3:8] = 1
        label[0, 0] = 2
        for part, array in (("image", image), ("label", label)):
            (folder / f"{part}sTr").mkdir(exist_ok=True)
            write_nifti(array, AFFINE, folder / f"{part}sTr/{number}.nii.gz")
        entries.append({part: f"./{part}sTr/{number}.nii.gz" for part in ("image", "label")})
    described = {
        "name": "Squares",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "effusion", "2": "corner"},
        "training": entries,
    }
    (folder / "dataset.json").write_text(json.dumps(described))
    return folder


def config(bright, out, **changes):
    given = {"phrases": {"effusion": SAYS[1]}, "resamples": 100, "shown": 2, **changes}
    return GroundingConfig(model=bright / "model", out=out, tracking={"enabled": False}, **given)


def test_maps_are_measured_against_masks(bright, labelled, tmp_path):
    result = grounding(config(bright, tmp_path, dataset=labelled))
    told = json.loads((tmp_path / "grounding.json").read_text())
    found = told["names"]["effusion"]
    assert found["pointing"]["patients"] == 3
    assert found["pointing"]["mean"] == 1
    assert found["contrast_to_noise"]["mean"] > 0.5
    assert found["share"]["mean"] < 0.2
    assert result.summary["pointing"] == 1
    page = (tmp_path / "grounding.html").read_text()
    assert page.count("data:image/png") == 2
    assert (tmp_path / "grounding.csv").read_text().count("\n") == 4
    assert grounding(config(bright, tmp_path, dataset=labelled)).skipped


def test_maps_of_scans_are_written_on_the_models_grid(bright, tmp_path):
    write_nifti(volume(1, planes=6), AFFINE, tmp_path / "a.nii.gz")
    inputs = (tmp_path / "a.nii.gz", tmp_path / "missing.nii")
    result = grounding(config(bright, tmp_path / "out", inputs=inputs))
    assert result.summary == {"left_out": 1}
    heat = nibabel.load(tmp_path / "out/maps/0001-1_01.nii.gz")
    assert heat.shape == (16, 16, 6)
    np.testing.assert_allclose(heat.affine, AFFINE)
    assert np.abs(heat.get_fdata()).max() <= 1


def test_a_phrase_of_no_class_is_refused(bright, labelled, tmp_path):
    with pytest.raises(ConfigError, match="phrases for nodule, which the label maps do not show"):
        grounding(config(bright, tmp_path, dataset=labelled, phrases={"nodule": "a nodule"}))


def test_scans_or_a_set_are_asked_for(bright, tmp_path):
    with pytest.raises(ValueError, match="either dataset or inputs"):
        config(bright, tmp_path)
