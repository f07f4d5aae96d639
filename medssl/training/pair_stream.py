"""Studies with their reports as what a pretraining learns from: checked, split, in batches."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch.utils.data import Dataset

from medssl.config.base import Config
from medssl.data.annotations import Annotations
from medssl.data.normalize import IntensityConfig
from medssl.data.pair_dataset import Facts, PairCollate, PairDataset, Studies, text_numbers
from medssl.data.report_text import ReportText
from medssl.data.store import CropStore
from medssl.data.study_order import StudyOrder
from medssl.data.study_views import StudyViews
from medssl.data.views import Batch
from medssl.errors import InputError
from medssl.methods.base import Method, ReportMethod
from medssl.reports.pairs import Pair, read_pairs
from medssl.training.maps import MapFiles, find_maps, place_maps

_log = logging.getLogger(__name__)


class PairSource(Config):
    """Which studies and reports are learned from."""

    folder: Path
    """The pairs that `medssl reports pair` made, of the volumes in the crop store."""
    most_normal: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Share of a batch whose reports find nothing, at most, while there are others."""
    organ_maps: Path | None = None
    """Folder of label maps, NIfTI files named by the key of a volume or a study, for
    `method.organs` and for nothing else."""
    heat_maps: Path | None = None
    """The same of what experts looked at, values of 0 and more, for `method.experts`."""


def check_reports_wanted(method: Method.Config, source: PairSource | None) -> None:
    """Raise ValueError unless pairs are named where a method reads reports, and only there.

    Args:
        method: What is configured.
        source: What the configuration names.
    """
    reads = isinstance(method, ReportMethod.Config)
    if reads and source is None:
        raise ValueError(
            f"the method {method.name} learns from reports, and none are named: set pairs.folder "
            "to what `medssl reports pair` made"
        )
    if source is not None and not reads:
        raise ValueError(
            f"the method {method.name} reads no reports, but `pairs` names some: take it out, or "
            "choose report_contrast"
        )
    if source is None or not isinstance(method, ReportMethod.Config):
        return
    wanted = {
        ("method.organs", "pairs.organ_maps"): (bool(method.organ_labels), source.organ_maps),
        ("method.experts", "pairs.heat_maps"): (method.wants_heat, source.heat_maps),
    }
    for (option, folder), (wants, given) in wanted.items():
        if wants != (given is not None):
            there, lacking = (option, folder) if wants else (folder, option)
            raise ValueError(f"{there} is set and {lacking} is not: they need each other")


@dataclass(frozen=True, kw_only=True)
class PairStream:
    """The pairs of a folder that can be learned from."""

    source: PairSource
    store: CropStore
    intensity: IntensityConfig
    pairs: tuple[Pair, ...]
    digest: str
    text: ReportText
    facts: Facts
    maps: Mapping[str, MapFiles] = field(default_factory=dict)
    """Files of label maps and heat maps, by what a sample calls the maps."""
    annotations: Annotations = field(default_factory=dict)
    """The same on the grids of the volumes, once :func:`place_maps` has put them there."""

    @property
    def inputs(self) -> dict[str, str]:
        """What the run depends on, for its record."""
        return {"pairs": self.digest} | {each.folder: each.digest for each in self.maps.values()}

    def studies(self, part: Literal["train", "val"]) -> list[int]:
        """Return the positions of the studies of one part."""
        return [n for n, pair in enumerate(self.pairs) if pair.split == part]

    def open(
        self, views: StudyViews, part: Literal["train", "val"], *, batch_size: int, seed: int
    ) -> tuple[Dataset[Any], Callable[[Sequence[Any]], Batch]]:
        """Return the endless samples of one part, and what joins them into a batch.

        Args:
            views: Which images of a study are shown, and how.
            part: ``val`` shows everything as it is.
            batch_size: Studies of one batch, no more than there are.
            seed: Decides the order and everything drawn.
        """
        studies = self.studies(part)
        texts, normal = text_numbers(self.pairs), self.facts.normal_S.tolist()
        order = StudyOrder(
            [texts[n] for n in studies],
            [normal[n] == 1 for n in studies],
            batch_size=batch_size,
            most_normal=round(self.source.most_normal * batch_size),
            seed=seed,
        )
        dataset = PairDataset(
            self.store,
            Studies(self.pairs, studies, self.text),
            views,
            self.intensity,
            order=order,
            training=part == "train",
            annotations=self.annotations,
        )
        return dataset, PairCollate(views, self.facts)


def open_pairs(
    source: PairSource | None,
    method: Method.Config,
    store: CropStore,
    intensity: IntensityConfig,
    *,
    batch_size: int,
) -> PairStream | None:
    """Return the pairs of a folder whose images are there and whose reports say something.

    Args:
        source: Which folder; None for a method that reads no reports.
        method: Whose text encoder cuts reports into tokens.
        store: Where the images are.
        intensity: How stored values become [0, 1].
        batch_size: Studies that one batch needs.

    Raises:
        InputError: The pairs are missing or damaged, too few can be learned from, or the text
            encoder cannot be read.
    """
    if source is None or not isinstance(method, ReportMethod.Config):
        return None
    found = read_pairs(source.folder)
    whole = [pair for pair in found.pairs if all(key in store for key in pair.volume_keys)]
    reading = method.reading
    pairs = [pair for pair in whole if pair.text(reading.sections).strip()]
    _say_what_is_left_out(len(found.pairs) - len(whole), len(whole) - len(pairs))
    train = sum(pair.split == "train" for pair in pairs)
    if train < batch_size:
        raise InputError(
            f"{source.folder}: {train} of {len(found.pairs)} studies can be learned from, and a "
            f"batch has {batch_size}",
            hint="lower loader.volumes_per_batch, or give the crop store that the pairs were made "
            "for",
        )
    unknown = set(method.findings) - set(found.findings)
    if unknown:
        raise InputError(
            f"{source.folder}: no labels about {', '.join(sorted(unknown))}",
            hint=f"method.findings may name: {', '.join(found.findings) or 'none of these pairs'}",
        )
    findings = (
        *method.findings,
        *(f for f in found.findings if f not in method.findings),
    )
    text = ReportText.of(pairs, reading)
    encoded = method.tokenizer().encode(text.sentences, reading.max_tokens)
    return PairStream(
        source=source,
        store=store,
        intensity=intensity,
        pairs=tuple(pairs),
        digest=found.digest,
        text=text,
        facts=Facts.of(pairs, findings, encoded.ids_NL, encoded.mask_NL),
        maps=find_maps(source.organ_maps, source.heat_maps, method.organ_labels, pairs),
    )


def _say_what_is_left_out(without_images: int, without_words: int) -> None:
    if without_images:
        _log.warning(
            "%d studies are left out: the store lacks some of their volumes", without_images
        )
    if without_words:
        _log.warning("%d studies are left out: their reports say nothing", without_words)


def without_tokens(stream: PairStream) -> PairStream:
    """Return the stream of a method that keeps what sentences become: it reads no tokens."""
    none = torch.empty(len(stream.text.sentences), 0)
    facts = replace(stream.facts, token_UL=none.long(), token_mask_UL=none.bool())
    return replace(stream, facts=facts)


def with_maps(stream: PairStream, run: Path) -> PairStream:
    """Return the stream with its maps on the grids of the volumes.

    Args:
        stream: Whose files were found.
        run: Folder of the run, where an earlier start may have left them.

    Raises:
        InputError: A map cannot be read.
    """
    return replace(stream, annotations=place_maps(stream.maps, stream.store, run))
