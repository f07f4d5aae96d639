import numpy as np
import pytest
from PIL import Image

from medssl.data.views import Sample
from medssl.evaluation.paired.figures import (
    axial,
    draw_explained,
    draw_heat,
    draw_study,
    draw_templates,
    panels,
)

RIGHT_ANTERIOR = np.eye(4)
AS_A_PICTURE = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Axes towards left and posterior: along columns and rows, as it is looked at."""


@pytest.mark.parametrize("planes", [None, 3])
def test_an_image_is_held_as_it_is_looked_at(planes):
    picture = np.arange(12.0).reshape(3, 4)  # rows from above, columns from the patient's right
    lying = picture.T[None] if planes is None else np.repeat(picture.T[None, ..., None], planes, 3)
    np.testing.assert_array_equal(axial(lying, AS_A_PICTURE), picture)
    turned = lying[:, ::-1, ::-1]
    np.testing.assert_array_equal(axial(turned, RIGHT_ANTERIOR), picture)


def test_a_study_of_many_images_shows_a_few_from_all_of_it():
    images = np.arange(9.0)[:, None, None, None] * np.ones((9, 1, 4, 4))
    shown = panels(Sample([images], {}), RIGHT_ANTERIOR)
    assert [float(plane.mean()) for plane in shown] == [1, 3, 5, 7]


def test_pictures_are_drawn(tmp_path):
    sample = Sample([np.random.default_rng(0).random((3, 1, 8, 8), np.float32)], {})
    planes = [image[0] for image in sample.views_BCIJK[0]]
    draw_study(tmp_path / "study.png", sample, RIGHT_ANTERIOR)
    draw_explained(tmp_path / "why.png", sample, RIGHT_ANTERIOR, {"a sign": 0.9, "other": 0.1})
    draw_templates(tmp_path / "ways.png", {"a": {"x": 0.4, "y": 0.7}, "b": {"y": 0.5}})
    draw_heat(tmp_path / "heat.png", planes, planes, [plane > 0.5 for plane in planes])
    for file in tmp_path.glob("*.png"):
        with Image.open(file) as picture:
            assert np.asarray(picture.convert("L")).std() > 5, file.name
    assert len(list(tmp_path.iterdir())) == 4
