"""The zeroshot stage: what a model of images and reports tells without having seen a label."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field

from medssl import __version__
from medssl.data.store import CropStore
from medssl.errors import ConfigError
from medssl.evaluation.page import inline, write_page
from medssl.evaluation.paired.asking import Asking, Ensemble, Score
from medssl.evaluation.paired.figures import draw_explained, draw_templates
from medssl.evaluation.paired.found import RetrievalOptions, reports_and_images, studies_alike
from medssl.evaluation.paired.measure import Measuring, Scored, spread
from medssl.evaluation.paired.negation import negation_table
from medssl.evaluation.paired.options import IntervalOptions, StudyOptions
from medssl.evaluation.paired.prompts import Finding, read_prompts
from medssl.evaluation.paired.studies import Embedded, Views, embed_studies, embed_views
from medssl.evaluation.paired.subject import Subject, first_affine
from medssl.evaluation.paired.targets import Unmentioned, finding_targets, true_answers
from medssl.evaluation.paired.zero_shot import Explained
from medssl.runs.digest import digest_file, digest_json
from medssl.runs.folder import atomic_path, write_json
from medssl.runs.manifest import now
from medssl.runs.stage import StageResult, StageRun, open_stage

SCORES, TABLE, PAGE = "zeroshot.json", "scores.csv", "zeroshot.html"
TEMPLATES, CASES, EMBEDDINGS = "templates.png", "cases", "embeddings"
DESCRIPTORS: Final = "descriptors"
_Json = dict[str, Any]


class ZeroShotConfig(StudyOptions, IntervalOptions):
    """Everything ``medssl zeroshot`` reads."""

    findings: Path
    """YAML file of what is asked for and how, such as `configs/findings/ct_chest.yaml`."""
    out: Path
    """Folder for the results."""
    embeddings: Path | None = None
    """Folder that embeddings of studies are kept in, for other runs too; null: in `out`."""
    looks: Annotated[int, Field(ge=1)] = 1
    """Views of each study whose vectors are averaged: the first is its middle, unchanged, others
    are drawn as in training. More of them cost as much more time."""
    ensemble: Ensemble = "embedding"
    """How prompts for the same become one: `embedding`: the mean of their vectors, brought to unit
    length; `cosine`: the mean of their cosines."""
    score: Score = "pair"
    """`pair`: softmax of present and absent; `sigmoid`: of present alone, for models that were
    trained with the sigmoid loss."""
    descriptor_views: Literal["together", "each"] = "together"
    """What descriptors are looked for in: in the images of a study `together`, as the model was
    trained; or in `each` of its volumes, series or pictures, and a descriptor is as probable as the
    mean of them (Xplainer, arXiv:2303.13391)."""
    unmentioned: Unmentioned = "unknown"
    """What a finding is that a study's labels say nothing of: `unknown` or `absent`."""
    least_positive: Annotated[int, Field(ge=1)] = 5
    """Studies with a finding, and without it, for it to be measured."""
    retrieval: RetrievalOptions | None = RetrievalOptions()
    """Finding reports by images and the other way; null leaves it out."""
    shown: Annotated[int, Field(ge=0)] = 6
    """Studies that the page explains by descriptors."""


class _Shown(NamedTuple):
    """Everything that is judged, as vectors."""

    test: Embedded
    val: Embedded | None
    views: dict[str, Views]
    """Of the descriptors, where they are looked for in each volume: of ``test`` and ``val``."""
    asking: Asking
    subject: Subject
    store: CropStore


def zeroshot(config: ZeroShotConfig, *, overwrite: bool = False) -> StageResult:
    """Ask a model for findings by words, and let it find reports by images and the other way.

    Leaves ``zeroshot.json``, ``scores.csv``, ``zeroshot.html`` with pictures of patients, and
    ``templates.png``. Interrupted, it embeds no study twice.

    Raises:
        InputError: The model, the pairs or the store cannot be read, or do not fit.
        ConfigError: The file of findings is wrong, or scores are asked for that the model cannot
            give.
        FolderError: ``config.out`` holds something else, and ``overwrite`` is off.
    """
    prompts = read_prompts(config.findings)
    store, pairs = config.material()
    chosen = config.chosen(pairs)
    inputs = {
        "model": config.model_digest,
        "store": store.digest,
        "pairs": pairs.digest,
        "findings": digest_json(prompts.model_dump(mode="json")),
    }
    with open_stage(
        "zeroshot",
        config.out,
        config,
        inputs=inputs,
        tracking=config.tracking,
        overwrite=overwrite,
    ) as run:
        if run.previous:
            return run.previous
        subject = config.subject(config.images, config.looks)
        if config.score == "sigmoid" and subject.bias is None:
            raise ConfigError(
                "score is sigmoid, but the model has no bias: it was not trained with that loss",
                hint="set score to pair",
            )
        cache = config.embeddings or config.out / EMBEDDINGS
        val = pairs.split("val") if config.split == "test" else ()
        found = {
            name: embed_studies(subject, store, some, cache)
            for name, some in (("test", chosen), ("val", val))
            if some
        }
        each = found if config.descriptor_views == "each" else {}
        shown = _Shown(
            test=found["test"],
            val=found.get("val"),
            views={name: embed_views(subject, store, of, cache) for name, of in each.items()},
            asking=Asking.of(subject, prompts, config.ensemble, config.score),
            subject=subject,
            store=store,
        )
        return _leave(run, config, shown, _report(config, shown))


def _report(config: ZeroShotConfig, shown: _Shown) -> _Json:
    test, how = shown.test, config.how()
    measuring = Measuring(test.patients, how, config.least_positive)
    sections = shown.subject.model.config.reading.sections
    findings = {
        finding.name: _finding(config, shown, measuring, finding)
        for finding in shown.asking.prompts.findings
    }
    means = {
        by: measuring.mean_auroc(
            [
                _scored(config, shown, shown.test, f, by)
                for f in shown.asking.prompts.findings
                if by != DESCRIPTORS or f.descriptors
            ]
        )
        for by in ("", DESCRIPTORS)
    }
    options = config.retrieval
    return {
        "split": config.split,
        "studies": len(test.pairs),
        "patients": len(set(test.patients)),
        "validation_studies": len(shown.val.pairs) if shown.val else 0,
        "left_out": [row._asdict() for row in test.left_out],
        "confidence": config.confidence,
        "resamples": config.resamples,
        "least_positive": config.least_positive,
        "unmentioned": config.unmentioned,
        "mean_auroc": means[""],
        "mean_auroc_descriptors": means[DESCRIPTORS],
        "findings": findings,
        "questions": {
            question.name: measuring.question(
                true_answers(test.pairs, question, shown.store),
                shown.asking.question(test.image_ND, question),
                list(question.answers),
            )
            for question in shown.asking.prompts.questions
        },
        "negation": negation_table(shown.asking),
        "retrieval": reports_and_images(test, sections, options, how) if options else None,
        "alike": studies_alike(test, options, how) if options else None,
    }


def _finding(
    config: ZeroShotConfig, shown: _Shown, measuring: Measuring, finding: Finding
) -> _Json:
    def measured(by: str) -> _Json:
        val = _scored(config, shown, shown.val, finding, by) if shown.val else None
        return measuring.finding(_scored(config, shown, shown.test, finding, by), val)

    auroc = {name: measured(name)["auroc"] for name in shown.asking.prompts.templates}
    return {
        "words": list(finding.words),
        **measured(""),
        "descriptors": measured(DESCRIPTORS) if finding.descriptors else None,
        "templates": auroc,
        "spread": spread(auroc),
    }


def _scored(
    config: ZeroShotConfig, shown: _Shown, studies: Embedded, finding: Finding, by: str
) -> Scored:
    """Return scores by all templates (""), by descriptors, or by one template."""
    target_N = finding_targets(studies.pairs, finding.name, config.unmentioned)
    asking, image_ND = shown.asking, studies.image_ND
    if by == DESCRIPTORS:
        return Scored(target_N=target_N, score_N=_by_descriptors(shown, studies, finding).score_N)
    templates = [asking.prompts.templates[by]] if by else None
    return Scored(target_N=target_N, score_N=asking.finding(image_ND, finding, templates))


def _by_descriptors(shown: _Shown, studies: Embedded, finding: Finding) -> Explained:
    views = shown.views.get("test" if studies is shown.test else "val")
    if views is None:
        return shown.asking.descriptors(studies.image_ND, finding)
    return shown.asking.descriptors(views.image_VD, finding, views.study_V)


def _leave(run: StageRun, config: ZeroShotConfig, shown: _Shown, report: _Json) -> StageResult:
    write_json(config.out / SCORES, report)
    with atomic_path(config.out / TABLE) as partial:
        as_table(report).to_csv(partial, index=False)
    auroc = {
        name: {way: found["value"] for way, found in row["templates"].items() if found}
        for name, row in report["findings"].items()
        if row["auroc"]
    }
    if auroc:
        draw_templates(config.out / TEMPLATES, auroc)
    write_page(
        config.out / PAGE,
        "paired/zeroshot.html",
        report=report,
        cases=_explained(config, shown),
        templates=inline(config.out / TEMPLATES) if auroc else None,
        version=__version__,
        date=now()[:10],
    )
    look_at = {"page": PAGE, "numbers": SCORES, "table": TABLE}
    return run.finish(
        summary=_summary(report),
        look_at=look_at | ({"templates": TEMPLATES} if auroc else {}),
        stays=[PAGE],
        outputs={"scores": digest_file(config.out / SCORES)},
    )


def _explained(config: ZeroShotConfig, shown: _Shown) -> list[_Json]:
    """Return, for the first findings with descriptors, the study that has it most probably."""
    asked = [finding for finding in shown.asking.prompts.findings if finding.descriptors]
    cases = list[_Json]()
    for number, finding in enumerate(asked[: config.shown]):
        found = _by_descriptors(shown, shown.test, finding)
        row = int(found.score_N.argmax())
        pair = shown.test.pairs[row]
        file = config.out / CASES / f"{number:02d}.png"
        values = dict(zip(finding.descriptors, found.descriptor_NX[row].tolist(), strict=True))
        image = shown.subject.read(shown.store, pair)
        draw_explained(file, image, first_affine(shown.store, pair), values)
        truth = finding_targets([pair], finding.name, config.unmentioned)[0]
        cases.append(
            {
                "finding": finding.name,
                "study_key": pair.study_key,
                "score": float(found.score_N[row]),
                "truth": "not known" if np.isnan(truth) else ("absent", "present")[int(truth)],
                **inline(file),
            }
        )
    return cases


def _summary(report: _Json) -> dict[str, str | int | float | bool]:
    summary: dict[str, str | int | float | bool] = {
        "studies": report["studies"],
        "patients": report["patients"],
        "left_out": len(report["left_out"]),
    }
    for name in ("mean_auroc", "mean_auroc_descriptors"):
        if report[name]:
            summary[name] = round(report[name]["value"], 4)
    for name, row in report["questions"].items():
        if row["auroc"]:
            summary[f"{name}_auroc"] = round(row["auroc"]["value"], 4)
    for way in ("image_to_report", "report_to_image"):
        for k in _ks(report):
            summary[f"{way}_recall_at_{k}"] = round(
                report["retrieval"][way]["same_words"][f"recall@{k}"]["value"], 4
            )
    return summary


def _ks(report: _Json) -> Sequence[int]:
    """Return the numbers of first ones that the summary tells of."""
    told = report["retrieval"]["image_to_report"]["same_words"] if report["retrieval"] else {}
    return [k for k in (1, 10) if f"recall@{k}" in told]


def as_table(report: _Json) -> pd.DataFrame:
    """Return one row per finding."""
    rows = []
    for name, row in report["findings"].items():
        line = {"finding": name, **{k: row[k] for k in ("studies", "positive", "prevalence")}}
        ways = {"": row, "descriptors_": row["descriptors"] or {}}
        for prefix, found in ways.items():
            for curve in ("auroc", "auprc"):
                for end in ("value", "low", "high"):
                    line[f"{prefix}{curve}_{end}"] = (found.get(curve) or {}).get(end)
        rows.append({**line, "template_spread": row["spread"]})
    return pd.DataFrame(rows)
