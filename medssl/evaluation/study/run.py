"""The study stage: one fine-tuning for every share of labels, seed and fold, beside its twin."""

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd

from medssl.errors import ConfigError
from medssl.evaluation.study.collect import Collected, collect
from medssl.evaluation.study.config import SEED, StudyConfig
from medssl.evaluation.study.fan_out import fan_out
from medssl.evaluation.study.figure import draw
from medssl.evaluation.study.members import (
    Member,
    finetune_config,
    folds_of,
    judge,
    members_of,
    train,
)
from medssl.evaluation.study.page import write_page
from medssl.evaluation.study.scores import STARTS
from medssl.labelled.cases import LabelledSet
from medssl.labelled.read import read_labelled
from medssl.labelled.splits import split_cases
from medssl.models.encoders.base import Encoder
from medssl.models.weights import WEIGHTS as ENCODER_WEIGHTS
from medssl.models.weights import load_encoder
from medssl.runs.digest import digest_file
from medssl.runs.folder import atomic_path, write_json
from medssl.runs.manifest import Manifest
from medssl.runs.private import read_config
from medssl.runs.stage import StageResult, StageRun, open_stage
from medssl.training.finetune import check_fit

__all__ = ["StudyConfig", "study"]

Json = dict[str, Any]
_log = logging.getLogger(__name__)
_MAY_GROW = ("label_fractions", "seeds", "workers")


def study(config: StudyConfig, *, overwrite: bool = False) -> StageResult:
    """Train and judge all members of a study, and say what pretraining is worth.

    Leaves ``report.html``, ``curve.png``, ``study.json``, ``table.csv`` (a row per share of
    labels), ``members.csv`` and ``cases.csv``, and below ``fraction-F/seed-S`` the ordinary folders
    ``finetune`` (per fold, where there are folds) and ``evaluate``. A member that fails is a row
    with a reason. Interrupted, the same call goes on; members that are missing are tried again, and
    further seeds and shares are added to those that are there.

    Raises:
        InputError: The data set or an encoder cannot be used.
        ConfigError: The plan does not fit the data; nothing was begun.
        FolderError: ``config.out`` holds a study with another plan, and ``overwrite`` is off.
        MedSSLError: No member could be trained.
        PreemptedError: Told to stop; what the members had is saved.
    """
    labelled = read_labelled(config.dataset)
    digests, name = _encoders(config)
    held_aside = _check(config, labelled)
    several = {f"encoder-{seed}": digest for seed, digest in digests.items()}
    inputs = {"dataset": labelled.digest, **several}
    grows, missing = _earlier(config, inputs)
    with open_stage(
        "study",
        config.out,
        config,
        inputs=inputs,
        tracking=config.tracking,
        overwrite=overwrite or (grows and missing),
        incremental=grows and not overwrite,
    ) as run:
        if run.previous:
            return run.previous
        members = members_of(config)
        problems = _work(run, config, members, held_aside=held_aside)
        found = collect(config, labelled, members, problems, held_aside=held_aside)
        report = _report(config, labelled, found, {"name": name, "digests": digests})
        report["judged"]["held_aside"] = held_aside
        return _leave(run, config, found, report)


def _encoders(config: StudyConfig) -> tuple[dict[str, str], str]:
    """Return the digest of each seed's encoder (``all``, where there is one), and its kind."""
    seeds = config.study.seeds if config.encoder_varies else config.study.seeds[:1]
    digests: dict[str, str] = {}
    built: list[Encoder.Config] = []
    for seed in seeds:
        folder = config.encoder_of(seed)
        encoder, _ = load_encoder(folder, trust_names=config.trust_encoder)
        built.append(encoder.config)  # type: ignore[arg-type]
        digests[str(seed) if config.encoder_varies else "all"] = digest_file(
            folder / ENCODER_WEIGHTS
        )
    if any(other != built[0] for other in built):
        raise ConfigError(
            f"the encoders of encoder_from ({config.encoder_from}) are not all alike",
            hint=f"{SEED} is to stand for the seeds of one pretraining",
        )
    return digests, str(built[0].model_dump()["name"])


def _check(config: StudyConfig, labelled: LabelledSet) -> bool:
    """Raise what would stop every member; return whether patients are held aside."""
    counts: dict[float, int] = {}
    for fraction in config.study.label_fractions:
        first = folds_of(Member(fraction, config.study.seeds[0]), config)[0]
        plan = finetune_config(first, config)
        parts = split_cases(labelled.cases, plan.splits, folds=labelled.folds)
        counts[fraction] = len({labelled.case(key).patient_key for key in parts["train"]})
        check_fit(plan, labelled)
    if not parts["test"] and config.study.folds is None:
        raise ConfigError(
            "no patient is held aside to judge by",
            hint="set splits.test above 0, or study.folds, to judge each patient by the fold that "
            "did not train on it",
        )
    for count in counts.values():
        same = [f"{other:g}" for other in counts if counts[other] == count]
        if len(same) > 1:
            raise ConfigError(
                f"the label fractions {' and '.join(same)} are the same: {count} patient(s)",
                hint="leave one of them out",
            )
    return bool(parts["test"])


def _earlier(config: StudyConfig, inputs: Mapping[str, str]) -> tuple[bool, bool]:
    """Return whether the folder has a study with this plan, and whether members of it failed."""
    earlier, tree = Manifest.read(config.out), read_config(config.out)
    if earlier is None or earlier.stage != "study" or tree is None:
        return False, False
    shared = earlier.inputs.keys() & inputs.keys()
    same_inputs = all(earlier.inputs[name] == inputs[name] for name in shared)
    same_plan = _plan_of(tree) == _plan_of(config.model_dump(mode="json"))
    missing = int(earlier.summary.get("missing", 0)) > 0
    return same_plan and same_inputs, missing


def _plan_of(tree: Mapping[str, Any]) -> Json:
    kept = {key: value for key, value in tree.items() if key not in {"tracking", "workers"}}
    return kept | {"study": {k: v for k, v in tree["study"].items() if k not in _MAY_GROW}}


def _work(
    run: StageRun, config: StudyConfig, members: list[Member], *, held_aside: bool
) -> dict[Member, str]:
    """Train and judge what is not done; return why members are missing."""
    place = run.tracker.place
    shared = [config.out.parent, config.dataset]
    how: Json = {"workers": config.study.workers, "shared": shared}
    training = [fold for member in members for fold in folds_of(member, config)]
    problems: dict[Member, str] = {}
    for outcome in fan_out(
        partial(train, config=config, place=place),
        sorted(training, key=lambda member: _is_done(member, config)),
        accelerator=config.engine.accelerator,
        told="Members trained",
        **how,
    ):
        if outcome.problem is not None:
            fold = "" if outcome.member.fold is None else f"fold {outcome.member.fold}: "
            problems[outcome.member.whole] = f"{fold}{outcome.problem}"
    for outcome in fan_out(
        partial(judge, config=config, place=place, held_aside=held_aside),
        [member for member in members if member not in problems],
        accelerator=config.study.device,
        told="Members judged",
        **how,
    ):
        if outcome.problem is not None:
            problems[outcome.member] = f"judging it: {outcome.problem}"
    return problems


def _is_done(member: Member, config: StudyConfig) -> bool:
    manifest = Manifest.read(member.folder(config.out) / "finetune")
    return manifest is not None and manifest.status == "finished"


def _report(config: StudyConfig, labelled: LabelledSet, found: Collected, encoder: Json) -> Json:
    """Return what ``study.json`` holds."""
    for row in found.members:
        folder = Member(row["fraction"], row["seed"]).folder(config.out)
        row["folder"] = str(folder.relative_to(config.out))
    return {
        "dataset": {
            "name": labelled.name,
            "licence": labelled.licence,
            "modality": labelled.modality,
            "digest": labelled.digest,
        },
        "encoder": {**encoder, "varies": config.encoder_varies},
        "plan": {
            "steps": config.in_steps().schedule.steps,
            "lr": config.optimizer.lr,
            "patches_per_step": config.patches_per_step,
            "pretrained_decoder": config.pretrained_decoder,
        },
        "headline": found.metric.column,
        "confidence": config.study.confidence,
        "permutations": config.study.permutations,
        "seeds": list(config.study.seeds),
        "folds": config.study.folds,
        "judged": {"patients": found.cases["patient_key"].nunique()},
        "val_patients": max(row.get("val_patients", 0) for row in found.members),
        "fractions": found.fractions,
        "members": found.members,
        "missing": [row for row in found.members if row["problem"] is not None],
    }


def as_table(fractions: list[Json]) -> pd.DataFrame:
    """Return the table of a study: a row per share of labels."""
    return pd.DataFrame(
        {
            "fraction": row["fraction"],
            "patients": row["patients"],
            "seeds": len(row["seeds"]),
            **{
                f"{start}{end}": row[start][name]
                for start in STARTS
                for name, end in (("value", ""), ("low", "_low"), ("high", "_high"))
            },
            "difference": row["difference"]["difference"],
            **{f"difference_{end}": row["difference"][end] for end in ("low", "high")},
            **{name: row["difference"][name] for name in ("p_value", "p_holm")},
            **{f"{start}_val": row["validation"][start] for start in STARTS},
        }
        for row in fractions
    )


def _leave(run: StageRun, config: StudyConfig, found: Collected, report: Json) -> StageResult:
    out, table = config.out, as_table(found.fractions)
    tables = {
        "table.csv": table,
        "members.csv": pd.DataFrame(found.members),
        "cases.csv": found.cases,
    }
    for name, rows in tables.items():
        with atomic_path(out / name) as partial_path:
            rows.to_csv(partial_path, index=False)
    draw(out / "curve.png", found.fractions, found.metric, config.study.confidence)
    write_json(out / "study.json", report)
    write_page(out / "report.html", report, found.metric, out / "curve.png")
    summary: Json = {
        "members": len(found.members),
        "missing": len(report["missing"]),
        "patients": report["judged"]["patients"],
    }
    for row, numbers in zip(found.fractions, table.to_dict("records"), strict=True):
        names = (*STARTS, "difference")
        run.tracker.log_metrics({k: numbers[k] for k in names}, step=row["patients"])
        for name in ("pretrained", "scratch", "difference", "difference_low", "difference_high"):
            summary[f"{name}_{row['fraction']:g}"] = round(numbers[name], 4)
        summary[f"p_holm_{row['fraction']:g}"] = round(numbers["p_holm"], 4)
        summary[f"verdict_{row['fraction']:g}"] = row["verdict"]
    look_at = {
        "report": "report.html",
        "curve": "curve.png",
        "table": "table.csv",
        "members": "members.csv",
        "cases": "cases.csv",
        "numbers": "study.json",
    }
    return run.finish(summary=summary, look_at=look_at)
