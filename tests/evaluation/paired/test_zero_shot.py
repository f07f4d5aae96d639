import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medssl.evaluation.paired.zero_shot import (
    answer_probabilities,
    ensemble,
    explained_probability,
    present_probability,
    sigmoid_probability,
)


def units(rows, width=6, seed=0):
    drawn = np.random.default_rng(seed).standard_normal((rows, width))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


IMAGES, PRESENT, ABSENT = units(5), units(3, seed=1), units(3, seed=2)


def slow_pair(image, present, absent, scale):
    yes, no = (math.exp(scale * sum(image * text)) for text in (present, absent))
    return yes / (yes + no)


def test_an_ensemble_of_one_prompt_is_that_prompt():
    for unit in (True, False):
        np.testing.assert_allclose(ensemble(PRESENT[:1], unit=unit), PRESENT[0])


def test_without_unit_length_an_ensemble_gives_the_mean_cosine():
    mean = [np.mean([image @ text for text in PRESENT]) for image in IMAGES]
    np.testing.assert_allclose(IMAGES @ ensemble(PRESENT, unit=False), mean)
    assert np.linalg.norm(ensemble(PRESENT)) == pytest.approx(1)


def test_prompts_that_cancel_out_give_no_direction():
    assert not ensemble(np.array([[1.0, 0.0], [-1.0, 0.0]])).any()


def test_a_pair_of_prompts_is_a_softmax_of_two():
    found = present_probability(IMAGES, PRESENT[0], ABSENT[0], 14.3)
    slow = [slow_pair(image, PRESENT[0], ABSENT[0], 14.3) for image in IMAGES]
    np.testing.assert_allclose(found, slow)


def test_a_model_of_the_sigmoid_loss_asks_whether_the_two_belong_together():
    found = sigmoid_probability(IMAGES, PRESENT[0], 10.0, -10.0)
    slow = [1 / (1 + math.exp(-(10 * sum(image * PRESENT[0]) - 10))) for image in IMAGES]
    np.testing.assert_allclose(found, slow)


def test_answers_are_a_softmax():
    found = answer_probabilities(IMAGES, PRESENT, 3.0)
    for image, row in zip(IMAGES, found, strict=True):
        powers = [math.exp(3 * sum(image * text)) for text in PRESENT]
        np.testing.assert_allclose(row, [power / sum(powers) for power in powers])


def test_descriptors_are_joined_by_their_geometric_mean():
    found = explained_probability(IMAGES, PRESENT, ABSENT)
    for n, image in enumerate(IMAGES):
        pairs = zip(PRESENT, ABSENT, strict=True)
        slow = [slow_pair(image, present, absent, 1 / 0.5) for present, absent in pairs]
        np.testing.assert_allclose(found.descriptor_NX[n], slow)
        assert found.score_N[n] == pytest.approx(math.prod(slow) ** (1 / 3))


def test_one_descriptor_is_one_pair_of_prompts():
    found = explained_probability(IMAGES, PRESENT[:1], ABSENT[:1], temperature=0.25)
    np.testing.assert_allclose(
        found.score_N, present_probability(IMAGES, PRESENT[0], ABSENT[0], 4.0)
    )


@given(st.integers(1, 40), st.floats(-1, 1))
def test_equal_descriptors_give_what_each_gives(count, cosine):
    present = np.tile([[cosine, math.sqrt(1 - cosine**2)]], (count, 1))
    found = explained_probability(np.array([[1.0, 0.0]]), present, np.zeros_like(present))
    assert found.score_N[0] == pytest.approx(found.descriptor_NX[0, 0])


def test_a_descriptor_of_several_views_is_as_probable_as_the_mean_of_them():
    study_V = np.array([1, 0, 1])
    found = explained_probability(IMAGES[:3], PRESENT, ABSENT, study_V=study_V)
    each = explained_probability(IMAGES[:3], PRESENT, ABSENT).descriptor_NX
    np.testing.assert_allclose(found.descriptor_NX, [each[1], (each[0] + each[2]) / 2])
    np.testing.assert_allclose(found.score_N, found.descriptor_NX.prod(1) ** (1 / 3))


def test_one_view_a_study_is_that_view():
    alone = explained_probability(IMAGES, PRESENT, ABSENT, study_V=np.arange(len(IMAGES)))
    np.testing.assert_allclose(
        alone.score_N, explained_probability(IMAGES, PRESENT, ABSENT).score_N
    )


def test_many_improbable_descriptors_do_not_become_nothing():
    present = np.tile([[-1.0, 0.0]], (300, 1))
    found = explained_probability(np.array([[1.0, 0.0]]), present, -present, temperature=0.005)
    assert 0 < found.score_N[0] < 1e-100
