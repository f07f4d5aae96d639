"""Every organ of an image contrasted with the sentences that its report has about it.

fVLM (Shui et al. 2025, arXiv:2501.14548), with an ontology in place of a language model: a sentence
is about an organ if it names a finding of that organ.

Suffixes: B studies, N images, S images of a study or sentences of a report, O organs, P cells of a
grid, U different sentences of a set, D features of the common space.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from medssl.config.base import Config
from medssl.data.study_views import in_place
from medssl.data.views import Texts
from medssl.losses.gather import gather_rows
from medssl.losses.organ_alignment import (
    NORMAL_ARE_ALIKE,
    OrganFacts,
    organ_alignment,
    organ_cells,
)
from medssl.losses.pair_targets import FalseNegativePolicy
from medssl.models.image_text import ImageFeatures, ImageTextModel, TextFeatures
from medssl.models.organ_attention import OrganAttention
from medssl.reports.ontology import read_ontology
from medssl.reports.sentence_findings import sentence_findings

MOST = 255
_CODES_SEED = 0


class Organ(Config):
    """What of the label maps and of the reports one organ is."""

    labels: Annotated[tuple[Annotated[int, Field(gt=0)], ...], Field(min_length=1)]
    """Its numbers in the label maps."""
    findings: Annotated[tuple[str, ...], Field(min_length=1)]
    """Findings of the ontology: sentences that name one are about the organ."""


class OrganConfig(Config):
    """Contrast of organs with what reports say of them."""

    organs: Annotated[dict[str, Organ], Field(min_length=1, max_length=MOST)]
    """By their names."""
    ontology: str = "chest_ct"
    """Which findings: chest_ct, chexpert, abdomen, brain, or a YAML file like those."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Of this part of the loss."""
    heads: Annotated[int, Field(gt=0)] = 4
    """Attention heads of an organ's query; `model.dim` is a multiple of it."""
    false_negatives: FalseNegativePolicy = NORMAL_ARE_ALIKE
    """What two studies are, organ by organ; as published, all in which it is normal are alike."""

    @model_validator(mode="after")
    def _organs_fit(self) -> Self:
        labels = Counter(label for organ in self.organs.values() for label in organ.labels)
        twice = sorted(label for label, count in labels.items() if count > 1)
        if twice:
            raise ValueError(f"labels of more than one organ: {', '.join(map(str, twice))}")
        known = read_ontology(self.ontology).names
        named = {finding for organ in self.organs.values() for finding in organ.findings}
        strange = sorted(named - set(known))
        if strange:
            raise ValueError(
                f"no findings of {self.ontology}: {', '.join(strange)}; it has {', '.join(known)}"
            )
        return self


class OrganContrast(nn.Module):
    """The loss, what attends to organs, and what is known of the set's sentences."""

    about_UO: Tensor | None
    abnormal_UO: Tensor | None
    code_U: Tensor | None

    def __init__(self, config: OrganConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        self.attention = OrganAttention(dim, len(config.organs), dim, config.heads)
        for name in ("about_UO", "abnormal_UO", "code_U"):
            self.register_buffer(name, None, persistent=False)

    def know_sentences(self, sentences: Sequence[str]) -> None:
        """Find what all sentences of a set say of organs, in the order of their numbers."""
        found = sentence_findings(sentences, read_ontology(self.config.ontology))
        organs = self.config.organs.values()
        rows = [[[label.get(f) for f in o.findings] for o in organs] for label in found]
        device, shape = self.attention.query_OD.device, (len(rows), len(organs))

        def table(of: Any) -> Tensor:
            return torch.tensor([[of(o) for o in row] for row in rows], device=device).view(shape)

        self.about_UO = table(lambda labels: any(label is not None for label in labels)).bool()
        self.abnormal_UO = table(any).bool()
        drawn = torch.Generator().manual_seed(_CODES_SEED)
        limits = torch.iinfo(torch.int64)
        codes = torch.randint(limits.min, limits.max, (len(rows),), generator=drawn)
        self.code_U = codes.to(device)

    def forward(
        self,
        organ_NIJK: Tensor | None,
        present_BVS: Tensor,
        images: ImageFeatures,
        reports: TextFeatures,
        texts: Texts,
        model: ImageTextModel,
    ) -> Tensor:
        """Return the loss of the batch of all processes, of the first view of every study.

        Args:
            organ_NIJK: Organ numbers of the images, from 1 in the order of the configuration; None
                where no image has a map.
            present_BVS: Which images there are.
            images: Their features, with places.
            reports: What was read of the reports.
            texts: The reports.
            model: Projects, and has the scale.

        Raises:
            ValueError: The sentences are not known yet.
        """
        if self.about_UO is None or self.abnormal_UO is None or self.code_U is None:
            raise ValueError("what the sentences name is not known: call know_sentences first")
        there_BS1 = (texts.sentence_BS >= 0)[..., None]
        number_BS = texts.sentence_BS.clamp_min(0)
        about_BSO = self.about_UO[number_BS] & there_BS1
        abnormal_BO = (self.abnormal_UO[number_BS] & there_BS1).any(1)
        image_BOD, seen_BO = self._of_images(organ_NIJK, present_BVS, images)
        facts = OrganFacts(
            study_B=texts.study_B,
            text_BO=(self.code_U[number_BS][..., None] * about_BSO).sum(1),
            normal_BO=about_BSO.any(1) & ~abnormal_BO,
            present_BO=about_BSO.any(1) & seen_BO,
        )
        return organ_alignment(
            gather_rows(image_BOD),
            gather_rows(_of_reports(about_BSO, reports, model)),
            OrganFacts(*map(gather_rows, facts)),
            model.scale,
            self.config.false_negatives,
        )

    def _of_images(
        self, organ_NIJK: Tensor | None, present_BVS: Tensor, images: ImageFeatures
    ) -> tuple[Tensor, Tensor]:
        """Return the embedding of each organ in a study's first view, and whether it is seen."""
        if images.places_BPD is None:
            raise ValueError("organs are made of places, and none were asked for")
        views, grid, organs = present_BVS.shape[1], images.shape[1:], len(self.config.organs)
        places_BPD = images.places_BPD[::views]
        mask_BOP = torch.zeros(
            len(places_BPD), organs, places_BPD.shape[1], dtype=torch.bool, device=places_BPD.device
        )
        if organ_NIJK is not None:
            cells = (*grid, 1)[: organ_NIJK.ndim - 1]
            mask_NOP = organ_cells(organ_NIJK, range(1, organs + 1), cells)
            mask_BOP = in_place(mask_NOP, present_BVS)[:, 0].transpose(1, 2).flatten(2)
        return self.attention(places_BPD, mask_BOP), mask_BOP.any(-1)


def _of_reports(about_BSO: Tensor, reports: TextFeatures, model: ImageTextModel) -> Tensor:
    """Return unit vectors ``(B, O, D)`` of the sentences about each organ; of all without any."""
    read_BOS = (about_BSO | ~about_BSO.any(1, keepdim=True)).transpose(1, 2)
    read_BOS = read_BOS & reports.present_BS[:, None]
    sentences_BOSE = reports.sentences_BSE[:, None].expand(-1, read_BOS.shape[1], -1, -1)
    unit_QD = model.project_texts(sentences_BOSE.flatten(0, 1), read_BOS.flatten(0, 1))
    return unit_QD.view(*read_BOS.shape[:2], -1)
