"""Studies with their reports as an endless dataset: sample index to images and sentences."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.utils.data
from numpy.typing import NDArray
from torch import Tensor

from medssl.data.annotations import Annotations
from medssl.data.normalize import IntensityConfig
from medssl.data.report_text import ReportText
from medssl.data.sampling import Stream, generator
from medssl.data.store import CropStore
from medssl.data.study_order import StudyOrder
from medssl.data.study_views import StudyViews
from medssl.data.views import Batch, Sample, Texts
from medssl.reports.pairs import Pair, text_digest

NOT_SPOKEN_OF = -2


class Report(NamedTuple):
    """What a sample shows of its report."""

    study: int
    """Position of the study in the pairs."""
    sentences: NDArray[np.int64]
    """Numbers of sentences."""


class Studies(NamedTuple):
    """Which studies are shown, and what is known of all."""

    pairs: Sequence[Pair]
    """All studies of the set."""
    shown: Sequence[int]
    """Positions of those that are shown."""
    text: ReportText
    """Reports of all, by their positions."""


class PairDataset(torch.utils.data.Dataset[tuple[Sample, Report]]):
    """Every sample is a pure function of the seed and its index, in any process and any order."""

    def __init__(
        self,
        store: CropStore,
        studies: Studies,
        views: StudyViews,
        intensity: IntensityConfig,
        *,
        order: StudyOrder,
        training: bool,
        annotations: Annotations | None = None,
    ) -> None:
        """Open a dataset.

        Args:
            store: Where the volumes are.
            studies: The studies; ``order`` counts those that are shown.
            views: Which images of a study are shown, and how.
            intensity: How stored values become [0, 1].
            order: Which study is shown when.
            training: Whether images, boxes, appearance and sentences are drawn.
            annotations: Maps of the volumes that are cut as they are.
        """
        self.store, self.studies = store, studies
        self.views, self.intensity = views, intensity
        self.order, self.training, self.annotations = order, training, annotations

    def __getitem__(self, sample_index: int) -> tuple[Sample, Report]:
        pairs, shown, text = self.studies
        study = shown[self.order.study_of(sample_index)]
        rng = generator(self.order.seed, sample_index, Stream.SAMPLE) if self.training else None
        mirrored = rng is not None and bool(rng.random() < self.views.mirror_probability)
        sentences = text.drawn(study, rng, mirrored=mirrored)
        sample = self.views.read(
            self.store,
            pairs[study],
            self.intensity,
            rng,
            mirrored=mirrored,
            annotations=self.annotations,
        )
        return sample, Report(study, sentences)


@dataclass(frozen=True)
class Facts:
    """What is known about each study of a set, and the tokens of its sentences; S studies."""

    study_S: Tensor
    text_S: Tensor
    normal_S: Tensor
    label_SF: Tensor
    token_UL: Tensor
    """Tokens of each of the set's U different sentences; L = 0 where nobody reads them."""
    token_mask_UL: Tensor

    @classmethod
    def of(
        cls, pairs: Sequence[Pair], findings: Sequence[str], token_UL: Tensor, mask_UL: Tensor
    ) -> "Facts":
        """Return the facts of ``pairs``; texts are equal where all that reports say of images is.

        Args:
            pairs: The studies.
            findings: What labels are about, in the order of their axis.
            token_UL: Tokens of the sentences.
            mask_UL: Whether there is a token.
        """
        labels = [[p.labels.get(name, NOT_SPOKEN_OF) for name in findings] for p in pairs]
        normal = [-1 if pair.normal is None else int(pair.normal) for pair in pairs]
        return cls(
            study_S=torch.arange(len(pairs)),
            text_S=torch.tensor(text_numbers(pairs)),
            normal_S=torch.tensor(normal, dtype=torch.int8),
            label_SF=torch.tensor(labels, dtype=torch.int8).reshape(len(pairs), len(findings)),
            token_UL=token_UL,
            token_mask_UL=mask_UL,
        )


def text_numbers(pairs: Sequence[Pair]) -> list[int]:
    """Return a number for each study that studies with reports of equal words share."""
    numbers: dict[str, int] = {}
    return [numbers.setdefault(text_digest(pair.text()), len(numbers)) for pair in pairs]


@dataclass(frozen=True)
class PairCollate:
    """Joins samples into one batch; an object, because loader processes must be given it."""

    views: StudyViews
    facts: Facts

    def __call__(self, samples: Sequence[tuple[Sample, Report]]) -> Batch:
        """Return the images of all studies, and their sentences, padded to the longest report."""
        batch = self.views.collate([sample for sample, _ in samples])
        reports = [report for _, report in samples]
        study_B = torch.tensor([report.study for report in reports])
        longest = max(len(report.sentences) for report in reports)
        sentence_BS = torch.full((len(reports), longest), -1)
        for row, report in enumerate(reports):
            sentence_BS[row, : len(report.sentences)] = torch.from_numpy(report.sentences)
        token_BSL, mask_BSL = self._tokens(sentence_BS)
        facts = self.facts
        texts = Texts(
            token_BSL=token_BSL,
            token_mask_BSL=mask_BSL,
            sentence_BS=sentence_BS,
            study_B=facts.study_S[study_B],
            text_B=facts.text_S[study_B],
            normal_B=facts.normal_S[study_B],
            label_BF=facts.label_SF[study_B],
        )
        return batch._replace(texts=texts)

    def _tokens(self, sentence_BS: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sentences' tokens, none where there is no sentence, without common padding."""
        there_BS1 = (sentence_BS >= 0)[..., None]
        mask_BSL = self.facts.token_mask_UL[sentence_BS.clamp_min(0)] & there_BS1
        used = int(mask_BSL.flatten(0, 1).any(0).sum())
        token_BSL = self.facts.token_UL[sentence_BS.clamp_min(0)].where(there_BS1, 0)
        return token_BSL[..., :used], mask_BSL[..., :used]
