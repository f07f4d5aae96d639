"""What a study of fine-tunings is told: one fine-tuning, and how often it is done."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from medssl.config.base import Config
from medssl.evaluation.intervals import Resampling
from medssl.evaluation.kinds.base import JudgeConfig
from medssl.runs.workers import Workers
from medssl.training.finetune_config import FinetuneConfig

T = TypeVar("T")

SEED = "{seed}"
"""Stands in `encoder_from` for the seed of a member."""
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def _listed(value: object) -> object:
    """Return the items of ``0.02,0.1``; a single number is a list of one."""
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    return [value] if isinstance(value, int | float) else value


def _seeds(value: object) -> object:
    """Return the numbers of ``0..4,7``; both ends of a range belong to it."""
    items = _listed(value)
    if not isinstance(items, list | tuple):
        return items
    found: list[Any] = []
    for item in items:
        ends = _RANGE.fullmatch(item) if isinstance(item, str) else None
        if ends is None:
            found.append(item)
            continue
        first, last = int(ends[1]), int(ends[2])
        if last < first:
            raise ValueError(f"the range {item} runs backwards: write {last}..{first}")
        found += range(first, last + 1)
    return found


def _share(value: float) -> float:
    if not 0 < value <= 1:
        as_share = f"; for {value:g} % write {value / 100:g}" if 1 < value <= 100 else ""  # noqa: PLR2004
        raise ValueError(
            f"should be a share of the labelled patients, above 0 and at most 1 (all of them), "
            f"found {value:g}{as_share}"
        )
    return value


def _each_once(values: tuple[T, ...]) -> tuple[T, ...]:
    twice = sorted({str(value) for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"should name each once, found {', '.join(twice)} more than once")
    return values


class MembersConfig(Config):
    """How often the fine-tuning is done, by whom, and how it is judged."""

    label_fractions: Annotated[
        tuple[Annotated[float, AfterValidator(_share)], ...],
        BeforeValidator(_listed),
        Field(min_length=1),
        AfterValidator(_each_once),
    ] = (1.0,)
    """Shares of the patients that are neither tested on nor validate, such as 0.02,0.1,1. Of one
    seed, the patients of a smaller share are among those of a larger one."""
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...],
        BeforeValidator(_seeds),
        Field(min_length=1),
        AfterValidator(_each_once),
    ] = (0, 1, 2, 3, 4)
    """Such as 0..4 or 0,1,5. Each draws first weights, order of the data, and which patients are
    labelled; those that are tested on stay the same."""
    folds: Annotated[int, Field(ge=2)] | None = None
    """Train so many folds of each, which answer together; where nobody is held aside
    (`splits.test` 0), each fold answers for its own patients."""
    workers: Workers = 0
    """How many are trained at a time on this machine, or a cluster; 0: as many as its cores, or
    its GPUs, and the memory of the first one allow. ``inline``: in this process."""
    threads: Annotated[int, Field(gt=0)] = 1
    """Processor threads of each: fixed, so that results do not depend on how many run at once."""
    mirror_axes: tuple[Annotated[int, Field(ge=0, le=2)], ...] = ()
    """Axes along which every scan is also seen mirrored when it is judged."""
    judge: JudgeConfig = JudgeConfig()
    """What scores are taken at."""
    resamples: Annotated[int, Field(ge=100)] = 5000
    """Bootstrap resamples behind the intervals of one member, or of a single seed."""
    permutations: Annotated[int, Field(ge=100)] = 10000
    """Exchanges of the two starts behind each p-value."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Share of intervals that would hold the true value."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the trained networks are judged."""


class StudyConfig(FinetuneConfig):
    """A fine-tuning as `medssl finetune` reads it, and the section `study`."""

    out: Path
    """Folder of the study; each member has one below it, `fraction-0.1/seed-3`."""
    encoder_from: Path | None = None
    """Folder of a finished pretraining, or of an exported encoder. With ``{seed}`` in it, as in
    `runs/voco-{seed}`, every seed begins from a pretraining of its own."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Decides the exchanges behind p-values; the members have the seeds of `study`."""
    study: MembersConfig = MembersConfig()
    """How often, by whom, and how it is judged."""

    @model_validator(mode="after")
    def _has_two_arms(self) -> Self:
        if self.encoder_from is None or not self.from_scratch_twin:
            raise ValueError(
                "a study compares an encoder with its twin from scratch: set encoder_from, and "
                "leave from_scratch_twin true"
            )
        return self

    @model_validator(mode="after")
    def _splits_are_free(self) -> Self:
        ours = ("train_fraction", "train_patients", "train_seed", "fold", "folds")
        taken = [f"splits.{name}" for name in ours if getattr(self.splits, name) is not None]
        if taken:
            raise ValueError(
                f"the section study decides about {', '.join(taken)}: leave that out, and set "
                "study.label_fractions, study.seeds and study.folds"
            )
        return self

    @property
    def encoder_varies(self) -> bool:
        """Whether every seed has a pretraining of its own."""
        return SEED in str(self.encoder_from)

    def encoder_of(self, seed: int) -> Path:
        """Return the encoder that a seed begins from."""
        return Path(str(self.encoder_from).replace(SEED, str(seed)))

    @property
    def how(self) -> Resampling:
        """How p-values, and intervals of a single seed, are made."""
        return Resampling(
            resamples=self.study.resamples,
            permutations=self.study.permutations,
            confidence=self.study.confidence,
            seed=self.seed,
        )
