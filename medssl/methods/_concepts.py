"""Sentences that name findings, looked for among the places of all images of a batch.

The patch-concept alignment of ConceptCLIP (Nie et al. 2025, arXiv:2501.15579) with the findings of
an ontology for concepts: a concept is the sentence that says a finding is there, and equal findings
are equal concepts, whichever words say so.

Suffixes: B studies, S sentences, K findings of a sentence or concepts of a report, U different
sentences of a set, D features of the common space.
"""

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from medssl.config.base import Config
from medssl.losses.concept_alignment import NO_CONCEPT, Concepts, concept_alignment
from medssl.losses.local_alignment import Parts
from medssl.losses.pair_targets import PairTargets
from medssl.reports.ontology import read_ontology
from medssl.reports.sentence_findings import sentence_findings


class ConceptConfig(Config):
    """Contrast of places with the sentences that name findings."""

    ontology: str = "chest_ct"
    """Which findings: chest_ct, chexpert, abdomen, brain, or a YAML file like those."""
    weight: Annotated[float, Field(gt=0)] = 0.5
    """Of this part of the loss; as published."""
    first_scale: Annotated[float, Field(gt=0)] = 10.0
    """What cosines are multiplied by in the beginning; it is learned."""
    first_bias: float = -10.0
    """What is added to them in the beginning; it is learned."""


class ConceptMatching(nn.Module):
    """The loss, with a scale and a bias of its own, and what is known of the set's sentences."""

    concept_UK: Tensor | None

    def __init__(self, config: ConceptConfig) -> None:
        super().__init__()
        self.ontology = read_ontology(config.ontology)
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.first_scale)))
        self.bias = nn.Parameter(torch.tensor(config.first_bias))
        self.register_buffer("concept_UK", None, persistent=False)

    def know_sentences(self, sentences: Sequence[str]) -> None:
        """Find the findings of all sentences of a set, in the order of their numbers."""
        number = {name: n for n, name in enumerate(self.ontology.names)}
        found = [
            [number[name] for name, label in labels.items() if label == 1]
            for labels in sentence_findings(sentences, self.ontology)
        ]
        most = max(map(len, found), default=0)
        rows = [[*row, *[NO_CONCEPT] * (most - len(row))] for row in found]
        self.concept_UK = torch.tensor(rows, device=self.bias.device).reshape(len(rows), most)

    def concepts(self, sentence_BS: Tensor, z_BSD: Tensor) -> Concepts:
        """Return the concepts of reports, as many as the report with the most has.

        Args:
            sentence_BS: Numbers of sentences; -1 for none.
            z_BSD: Their embeddings.

        Raises:
            ValueError: The sentences are not known yet.
        """
        if self.concept_UK is None:
            raise ValueError("what the sentences name is not known: call know_sentences first")
        code_BSK = self.concept_UK[sentence_BS.clamp_min(0)]
        code_BSK = code_BSK.masked_fill(sentence_BS[..., None] < 0, NO_CONCEPT)
        code_BK = code_BSK.flatten(1)
        there_BK = code_BK != NO_CONCEPT
        most = int(there_BK.sum(1).max())
        chosen_BK = there_BK.int().argsort(dim=1, descending=True, stable=True)[:, :most]
        sentence_BK = chosen_BK // max(code_BSK.shape[2], 1)
        index_BKD = sentence_BK[..., None].expand(-1, -1, z_BSD.shape[2])
        return Concepts(z_BSD.gather(1, index_BKD), code_BK.gather(1, chosen_BK))

    def forward(self, places: Parts, concepts: Concepts, targets: PairTargets) -> Tensor:
        """Return the loss of the whole batch; 0, with gradient 0, where no concept is named."""
        scale = self.log_scale.exp()
        return concept_alignment(places, concepts, targets, scale, self.bias)
