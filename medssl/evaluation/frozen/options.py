"""Which scores are taken of frozen embeddings, and how."""

from typing import Annotated, Literal

from pydantic import Field

from medssl.config.base import Config

Count = Annotated[int, Field(gt=0)]
Strength = Annotated[float, Field(gt=0)]


class KnnOptions(Config):
    """The nearest cases of the training patients vote."""

    k: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 5, 10, 20)
    """Numbers of neighbours; those that the training cases do not have are left out."""
    temperature: Annotated[float, Field(gt=0)] = 0.07
    """A neighbour votes with exp(cosine / temperature)."""


class LinearOptions(Config):
    """Logistic regression, as held back as suits the validation patients best."""

    l2: Annotated[tuple[Strength, ...], Field(min_length=1)] = (
        *(1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0),
    )
    """Strengths of L2 that are trained together."""


class FewShotOptions(Config):
    """A handful of training patients of each class."""

    shots: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 2, 5, 10, 20)
    """Patients of each class; numbers that a class does not have are left out."""
    draws: Annotated[int, Field(gt=1)] = 50
    """How often they are drawn anew."""
    l2: Strength = 0.1
    """How much the logistic regression is held back: there is nothing to choose it by."""


class RetrievalOptions(Config):
    """Every case asks for cases like it among all others."""

    k: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 5, 10)
    """How many of the first are looked at."""
    same_patient: Literal["exclude", "target"] = "exclude"
    """`exclude`: what shares the class is sought among other patients. `target`: other scans of the
    patient are sought; patients with one scan do not ask."""


class ViewOptions(Config):
    """Two augmented crops of each volume: alignment and uniformity, of crops and of places."""

    spread: Annotated[float, Field(ge=1)] = 1.25
    """Side of the region that both crops lie in, over that of a crop."""


class CkaOptions(Config):
    """How alike the encoders are, level by level."""

    debiased: bool = True
    """Unbiased estimates of HSIC; the biased one is near 1 wherever there are few cases."""
    most_cases: Annotated[int, Field(ge=4)] = 2000
    """Only so many cases, the first ones: the matrix of all pairs is held in memory."""


class ScoreOptions(Config):
    """Which scores; null leaves one out."""

    knn: KnnOptions | None = KnnOptions()
    """Nearest neighbours."""
    linear: LinearOptions | None = LinearOptions()
    """A linear probe."""
    few_shot: FewShotOptions | None = FewShotOptions()
    """Probes of few labels; of one column of classes only."""
    retrieval: RetrievalOptions | None = RetrievalOptions()
    """Cases like a case."""
    views: ViewOptions | None = ViewOptions()
    """Alignment and uniformity."""
    rank: bool = True
    """Effective rank, participation ratio, and uniformity of whole volumes."""
    cka: CkaOptions | None = CkaOptions()
    """Likeness of encoders."""
