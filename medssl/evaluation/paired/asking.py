"""Prompts as vectors, each read once, and what studies score for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medssl.evaluation.paired.prompts import Finding, PromptSet, Question, Template
from medssl.evaluation.paired.subject import Subject
from medssl.evaluation.paired.zero_shot import (
    Explained,
    answer_probabilities,
    ensemble,
    explained_probability,
    present_probability,
    sigmoid_probability,
)

Floats = NDArray[np.float64]
Ensemble = Literal["embedding", "cosine"]
Score = Literal["pair", "sigmoid"]


@dataclass(frozen=True, kw_only=True)
class Asking:
    """A set of prompts as one model reads it."""

    prompts: PromptSet
    vectors: dict[str, Floats]
    """Prompt: unit vector."""
    scale: float
    bias: float | None
    ensemble: Ensemble = "embedding"
    """``embedding``: the mean of prompts, brought to unit length; ``cosine``: their mean cosine."""
    score: Score = "pair"
    """``pair``: softmax of present and absent; ``sigmoid``: of present alone, for models that were
    trained with the sigmoid loss."""

    @classmethod
    def of(
        cls,
        subject: Subject,
        prompts: PromptSet,
        ensemble: Ensemble = "embedding",
        score: Score = "pair",
    ) -> "Asking":
        """Read all prompts."""
        texts = list(dict.fromkeys(every_prompt(prompts)))
        vectors = dict(zip(texts, subject.embed_words(texts), strict=True))
        return cls(
            prompts=prompts,
            vectors=vectors,
            scale=subject.scale,
            bias=subject.bias,
            ensemble=ensemble,
            score=score,
        )

    def vector(self, texts: Sequence[str]) -> Floats:
        """Return one vector for several prompts."""
        return ensemble(
            np.stack([self.vectors[text] for text in texts]), unit=self.ensemble == "embedding"
        )

    def sides(self, finding: Finding, templates: Sequence[Template]) -> tuple[Floats, Floats]:
        """Return what says that a finding is there, and what says that it is not."""
        present, absent = (
            self.vector([text for t in templates for text in t.prompts(finding.words, present=yes)])
            for yes in (True, False)
        )
        return present, absent

    def finding(
        self, image_ND: Floats, finding: Finding, templates: Sequence[Template] | None = None
    ) -> Floats:
        """Return how probable a finding is, ``(N,)``; by all templates, or some."""
        present_D, absent_D = self.sides(
            finding, templates or tuple(self.prompts.templates.values())
        )
        if self.score == "sigmoid":
            return sigmoid_probability(image_ND, present_D, self.scale, self.bias or 0.0)
        return present_probability(image_ND, present_D, absent_D, self.scale)

    def descriptors(
        self, image_ND: Floats, finding: Finding, study_V: NDArray[np.int64] | None = None
    ) -> Explained:
        """Return how probable a finding is by its descriptors; it must have some.

        Args:
            image_ND: Unit vectors of studies, or of views of them.
            finding: What is asked for.
            study_V: Which study each view is of.
        """
        present_XD, absent_XD = (
            np.stack(
                [
                    self.vectors[text]
                    for text in self.prompts.descriptor.prompts(finding.descriptors, present=yes)
                ]
            )
            for yes in (True, False)
        )
        return explained_probability(image_ND, present_XD, absent_XD, study_V=study_V)

    def question(self, image_ND: Floats, question: Question) -> Floats:
        """Return how probable each answer is, ``(N, C)``."""
        answer_CD = np.stack([self.vector(question.prompts(name)) for name in question.answers])
        return answer_probabilities(image_ND, answer_CD, self.scale)


def every_prompt(prompts: PromptSet) -> list[str]:
    """Return all texts that a set asks with; some may come twice."""
    sides = (True, False)
    texts = [
        text
        for finding in prompts.findings
        for template, words in [
            *((template, finding.words) for template in prompts.templates.values()),
            (prompts.descriptor, finding.descriptors),
        ]
        for present in sides
        for text in template.prompts(words, present=present)
    ]
    answers = (
        question.prompts(name) for question in prompts.questions for name in question.answers
    )
    return [*texts, *(text for of_one in answers for text in of_one)]
