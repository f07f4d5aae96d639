"""Scores of images for words, from unit vectors alone."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit, softmax

Floats = NDArray[np.float64]
DESCRIPTOR_TEMPERATURE = 0.5
"""Xplainer's (Pellegrini et al. 2023, arXiv:2303.13391)."""


class Explained(NamedTuple):
    """A score and the descriptors that it was made of."""

    score_N: Floats
    descriptor_NX: Floats
    """How probable each descriptor is."""


def ensemble(prompt_PD: Floats, *, unit: bool = True) -> Floats:
    """Return one vector ``(D,)`` for several prompts.

    Args:
        prompt_PD: Unit vectors.
        unit: Whether their mean is brought to unit length, as CLIP does it (Radford et al. 2021,
            arXiv:2103.00020, section 3.1.4). Otherwise its product with an image is the mean of
            the prompts' cosines.
    """
    mean_D: Floats = prompt_PD.mean(axis=0)
    length = float(np.linalg.norm(mean_D))
    return mean_D / length if unit and length > 0 else mean_D


def present_probability(
    image_ND: Floats, present_D: Floats, absent_D: Floats, scale: float
) -> Floats:
    """Return the softmax of the two scaled cosines, ``(N,)``: how probable ``present`` is.

    Args:
        image_ND: Unit vectors.
        present_D: What says that something is there, see :func:`ensemble`.
        absent_D: What says that it is not.
        scale: What the model multiplies cosines by.
    """
    probability_N: Floats = expit(scale * (image_ND @ (present_D - absent_D)))
    return probability_N


def sigmoid_probability(image_ND: Floats, present_D: Floats, scale: float, bias: float) -> Floats:
    """Return how probable it is that image and text belong together, ``(N,)``.

    For models trained with the sigmoid loss (Zhai et al. 2023, arXiv:2303.15343).

    Args:
        image_ND: Unit vectors.
        present_D: What says that something is there, see :func:`ensemble`.
        scale: What the model multiplies cosines by.
        bias: What it then adds.
    """
    probability_N: Floats = expit(scale * (image_ND @ present_D) + bias)
    return probability_N


def answer_probabilities(image_ND: Floats, answer_CD: Floats, scale: float) -> Floats:
    """Return the softmax over answers, ``(N, C)``.

    Args:
        image_ND: Unit vectors.
        answer_CD: One row an answer, see :func:`ensemble`.
        scale: What the model multiplies cosines by.
    """
    probability_NC: Floats = softmax(scale * (image_ND @ answer_CD.T), axis=1)
    return probability_NC


def explained_probability(
    image_ND: Floats,
    present_XD: Floats,
    absent_XD: Floats,
    temperature: float = DESCRIPTOR_TEMPERATURE,
    study_V: NDArray[np.int64] | None = None,
) -> Explained:
    """Return the geometric mean of the descriptors' probabilities, and these themselves.

    Xplainer (Pellegrini et al. 2023, arXiv:2303.13391): each descriptor's probability is the
    softmax of the cosines with its two prompts over the temperature; of a study of several views,
    the mean of theirs. In the log domain, so that many improbable descriptors do not become 0.

    Args:
        image_ND: Unit vectors.
        present_XD: One row a descriptor: it is there.
        absent_XD: It is not.
        temperature: Not the one that the model was trained with.
        study_V: Where the images are views of studies: which study each is of, every one of them
            from 0 on having a view. Without, each image is a study.
    """
    log_NX = log_expit(image_ND @ (present_XD - absent_XD).T / temperature)
    if study_V is not None:
        log_VX, views_N = log_NX, np.bincount(study_V)
        log_NX = np.full((len(views_N), log_VX.shape[1]), -np.inf)
        np.logaddexp.at(log_NX, study_V, log_VX)
        log_NX -= np.log(views_N)[:, None]
    return Explained(np.exp(log_NX.mean(axis=1)), np.exp(log_NX))
