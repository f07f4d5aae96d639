"""The members of a study: which there are, how each is trained and judged, where each lies."""

import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from medssl.config.load import validate
from medssl.errors import MedSSLError, PreemptedError
from medssl.evaluation.evaluate import EvaluateConfig, evaluate
from medssl.evaluation.study.config import StudyConfig
from medssl.runs.folder import read_json
from medssl.runs.stage import StageResult
from medssl.runs.tracking import RunPlace, Tracker, child_run, nested_in
from medssl.training.finetune import finetune
from medssl.training.finetune_config import FinetuneConfig

KILLED = "its process was killed, most often because memory ran out: use fewer workers"
_KIB_PER_GIB = 1024**2


class Member(NamedTuple):
    """One pair of twins, or all folds of it."""

    fraction: float
    """Of the patients that may train."""
    seed: int
    fold: int | None = None

    @property
    def title(self) -> str:
        """What it is called, short enough for a column of MLflow's page."""
        fold = "" if self.fold is None else f", fold {self.fold}"
        return f"{100 * self.fraction:g} %, seed {self.seed}{fold}"

    @property
    def whole(self) -> "Member":
        """All folds of it."""
        return self._replace(fold=None)

    def folder(self, out: Path) -> Path:
        """Return where it lies."""
        folder = out / f"fraction-{self.fraction:g}" / f"seed-{self.seed}"
        return folder if self.fold is None else folder / f"fold-{self.fold}"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a member."""

    member: Member
    problem: str | None = None
    """Why it is missing."""
    stopped: bool = False
    """Told to stop: everything it had is saved."""
    peak_gib: float | None = None
    """Memory its process had at most; None where it was done before."""


def members_of(config: StudyConfig) -> list[Member]:
    """Return all members, folds together; the largest first, whose memory is the most."""
    fractions = sorted(config.study.label_fractions, reverse=True)
    return [Member(fraction, seed) for fraction in fractions for seed in config.study.seeds]


def folds_of(member: Member, config: StudyConfig) -> list[Member]:
    """Return what is trained for a member: itself, or each fold."""
    if config.study.folds is None:
        return [member]
    return [member._replace(fold=fold) for fold in range(config.study.folds)]


def finetune_config(member: Member, config: StudyConfig) -> FinetuneConfig:
    """Return how a member, or one fold of it, is trained."""
    tree = config.model_dump(mode="json", exclude={"study"})
    tree["splits"] |= {
        "train_fraction": member.fraction,
        "train_seed": member.seed,
        "fold": member.fold,
        "folds": config.study.folds,
    }
    tree |= {
        "out": member.folder(config.out) / "finetune",
        "encoder_from": config.encoder_of(member.seed),
        "seed": member.seed,
    }
    return validate(FinetuneConfig, tree, where=member.title)


def evaluate_configs(
    member: Member, config: StudyConfig, *, held_aside: bool
) -> list[EvaluateConfig]:
    """Return how a member is judged: once on those held aside, or each fold on its own patients."""
    folds = folds_of(member, config)
    trained = [fold.folder(config.out) / "finetune" for fold in folds]
    shared = {
        name: getattr(config.study, name)
        for name in ("mirror_axes", "judge", "resamples", "permutations", "confidence", "device")
    } | {"seed": config.seed, "tracking": config.tracking}
    if held_aside:
        out = member.folder(config.out) / "evaluate"
        return [EvaluateConfig(finetune=tuple(trained), out=out, **shared)]
    return [
        EvaluateConfig(
            finetune=(folder,), out=fold.folder(config.out) / "evaluate", split="val", **shared
        )
        for folder, fold in zip(trained, folds, strict=True)
    ]


def train(member: Member, *, config: StudyConfig, place: RunPlace | None) -> Outcome:
    """Train a member, or one fold of it, or continue with it; called by a worker."""
    with _working(config), _run_of(member.whole, place) as run:
        if member.fold is None:
            return _attempt(member, run, finetune_config(member, config))
        with child_run(run.place, f"fold {member.fold}", f"fold-{member.fold}") as fold:
            return _attempt(member, fold, finetune_config(member, config))


def _attempt(member: Member, run: Tracker, config: FinetuneConfig) -> Outcome:
    try:
        with nested_in(run.place):
            result = finetune(config)
    except Exception as error:  # noqa: BLE001 - one member never stops the others
        return _failed(member, error, f"medssl finetune {config.out / 'config.yaml'}")
    return Outcome(member=member, peak_gib=_peak_gib([result]))


def judge(
    member: Member, *, config: StudyConfig, place: RunPlace | None, held_aside: bool
) -> Outcome:
    """Judge a trained member, all folds of it; called by a worker."""
    configs = evaluate_configs(member, config, held_aside=held_aside)
    with _working(config), _run_of(member, place) as run:
        try:
            with nested_in(run.place):
                results = [evaluate(one) for one in configs]
        except Exception as error:  # noqa: BLE001
            return _failed(member, error, f"medssl evaluate {configs[0].out / 'config.yaml'}")
        if held_aside:
            run.log_metrics(_headline(results[0].folder))
    return Outcome(member=member, peak_gib=_peak_gib(results))


def _headline(folder: Path) -> dict[str, float]:
    metrics = read_json(folder / "metrics.json")
    column, answer = metrics["headline"]["metric"], metrics["headline"]["answer"]
    values = {name: by[answer]["value"] for name, by in metrics["scores"][column].items()}
    return {f"{name}_{column}": value for name, value in values.items() if value is not None}


def killed(member: Member) -> Outcome:
    """Return what became of a member that took its worker with it."""
    return Outcome(member=member, problem=KILLED)


def _failed(member: Member, error: Exception, command: str) -> Outcome:
    if isinstance(error, PreemptedError):
        return Outcome(member=member, stopped=True)
    if isinstance(error, MedSSLError):
        return Outcome(member=member, problem=error.problem)
    # The text of other errors may quote what was read.
    return Outcome(member=member, problem=f"{type(error).__name__}; to see more: {command}")


def _run_of(member: Member, place: RunPlace | None) -> Tracker:
    """Return the tracked run of a member, under which its stages nest."""
    tags = {"fraction": f"{member.fraction:g}", "seed": str(member.seed)}
    key = f"fraction-{member.fraction:g}-seed-{member.seed}"
    return child_run(place, member.title, key, tags)


def _peak_gib(results: Sequence[StageResult]) -> float | None:
    if all(result.skipped for result in results):
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KIB_PER_GIB


@contextmanager
def _working(config: StudyConfig) -> Iterator[None]:
    """Keep to the threads that are meant for one member."""
    before = torch.get_num_threads()
    torch.set_num_threads(config.study.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
