"""Stage: a library to a selection of it: rules, copies, splits, a report. No voxel is copied."""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SerializeAsAny

from medssl.config.base import Config
from medssl.config.choice import choice
from medssl.curation import ledger, release, review
from medssl.curation import selection as tables
from medssl.curation.catalog_rows import CatalogRows
from medssl.curation.decisions import Decisions, Exclusion, kept_rows, summarise
from medssl.curation.diversify import surplus_volumes
from medssl.curation.diversity.base import Diversity
from medssl.curation.duplicates import find_duplicates
from medssl.curation.edges import NearDuplicateConfig
from medssl.curation.gates import DEFAULT_RULES, RULES
from medssl.curation.report import write_report
from medssl.curation.representatives import RELEASED, represent, superseding
from medssl.curation.rules.base import Rule
from medssl.curation.sampling_table import FILE as SAMPLING
from medssl.curation.sampling_table import write_sampling_table
from medssl.curation.splits import SplitConfig, draw_splits
from medssl.curation.strategies.base import Strategy
from medssl.errors import InputError
from medssl.library.catalog import catalog_digest
from medssl.library.slices import FILE as SLICES
from medssl.runs.digest import digest_file, digest_json
from medssl.runs.manifest import Manifest
from medssl.runs.stage import StageResult, StageRun, open_stage
from medssl.runs.tracking import TrackingConfig
from medssl.runs.workers import Workers

_log = logging.getLogger(__name__)

STRATEGIES, DIVERSITY = "medssl.curation.strategies", "medssl.curation.diversity"

LOOK_AT = {
    "report": "report.html",
    "kept": "kept.parquet",
    "every decision": ledger.FILE,
    "pairs to judge": review.FILE,
}

BORDERLINE = 10
"""Pairs that a person is asked about."""


def _folder_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(f"{name!r} cannot name a folder; use letters, digits, dot, dash, _")
    return name


def _listed(keys: Any) -> Any:
    """Return the keys in a text file, where one is named instead of keys."""
    if not isinstance(keys, str | Path):
        return keys
    if not Path(keys).is_file():
        raise ValueError(f"there is no file {keys}; wanted a list of keys, or a file, one a line")
    return tuple(Path(keys).read_text(encoding="utf-8").split())


class CurateConfig(Config):
    """Everything ``medssl curate`` reads."""

    library: Path
    """The library that ``medssl ingest`` wrote."""
    name: Annotated[str, AfterValidator(_folder_name)]
    """Name of the selection; it is written to ``library``/selections/``name``."""
    rules: tuple[Annotated[SerializeAsAny[Rule.Config], choice(RULES)], ...] = DEFAULT_RULES
    """Applied in this order; the first that objects gives the reason code."""
    near_duplicate: NearDuplicateConfig = NearDuplicateConfig()
    """When two volumes count as copies of one scan."""
    diversity: Annotated[SerializeAsAny[Diversity.Config], choice(DIVERSITY)] | None = None
    """What thins out scans of which there are many alike, copies being gone; null: nothing does."""
    embeddings: Path | None = None
    """Parquet file of `volume_key` and `embedding` for `diversity` and the report's map; null:
    signatures serve."""
    splits: SplitConfig = SplitConfig()
    """How the kept volumes are divided."""
    slices: Annotated[SerializeAsAny[Strategy.Config], choice(STRATEGIES)] | None = None
    """How the slices of the kept volumes are weighed, for `prepare`; null: all weigh alike."""
    based_on: str | None = None
    """A released selection: all it keeps stays kept, in the same split; newcomers are added."""
    withdraw: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    """Keys of patients and volumes whose consent was withdrawn, or a file of them, one a line: from
    now on in no selection of the library."""
    review: Path | None = None
    """A CSV file of what a person judged (see ``borderline.csv``); it outranks thresholds."""
    release: bool = False
    """Declare the selection released: it never changes again, and others can be based on it."""
    pictures: Annotated[int, Field(ge=0)] = 60
    """Kept volumes shown in the report, and dropped ones; the tables name all."""
    workers: Workers = 0
    """Processes that compare volumes, 0 for one per core; or a cluster, as in `ingest`."""
    tracking: TrackingConfig = TrackingConfig()
    """Where the stage is recorded."""


def curate(config: CurateConfig, *, overwrite: bool = False) -> StageResult:
    """Decide which volumes of a library are worth learning from, and divide them.

    Leaves ``kept.parquet``, ``ledger.parquet``, ``edges.parquet``, ``borderline.csv`` and
    ``report.html`` in the selection's folder. The result depends on the catalog, what was
    withdrawn, the review, the released selection and the configuration alone.

    Raises:
        InputError: the library has no catalog, no volume would be kept, or the review, the keys
            withdrawn or the released selection cannot be used.
        FolderError: a selection of that name was made otherwise, or is released.
    """
    inputs = {"catalog": catalog_digest(config.library)}
    folder = tables.selection_folder(config.library, config.name)
    rows = CatalogRows.read(config.library)
    withdrawn = release.withdraw(config.library, config.withdraw, rows)
    if withdrawn:
        inputs["withdrawn"] = digest_json(sorted(withdrawn))
    if config.review is not None:
        review.read_reviews(config.review, rows)  # mistakes are told before any folder is touched
        inputs["review"] = digest_file(config.review)
    if config.embeddings is not None and config.embeddings.is_file():
        inputs["embeddings"] = digest_file(config.embeddings)
    if config.based_on is not None:
        inputs["based_on"] = release.release_digest(config.library, config.based_on)
    if overwrite:
        release.refuse_to_replace(folder)
    settings = config.model_copy(update={"release": False})  # that is said of a result, no part
    with open_stage(
        "curate", folder, settings, inputs=inputs, overwrite=overwrite, tracking=config.tracking
    ) as run:
        result = run.previous or _finish(config, run, decide(config, rows, withdrawn))
        if config.release:
            release.release(folder)
        return result


def decide(
    config: CurateConfig, rows: CatalogRows | None = None, withdrawn: Iterable[str] = ()
) -> Decisions:
    """Apply the rules, find the copies and draw the splits."""
    rows = CatalogRows.read(config.library) if rows is None else rows
    reviews = review.read_reviews(config.review, rows) if config.review else review.Reviews()
    base = _base(config, rows)
    decisions = Decisions(
        rows,
        excluded=dict(base.exclusions),
        standing=base.standing,
        judged=dict(base.judged),
    )
    apply_rules(config.rules, decisions)
    review.judge_volumes(reviews, decisions)
    reason = "consent was withdrawn"
    decisions.excluded |= dict.fromkeys(withdrawn, Exclusion("withdrawn", reason, "withdrawal"))
    find_copies(config, decisions, base, reviews)
    thin_out(config, decisions)
    draw_splits(config.splits, decisions, base.split)
    return decisions


def apply_rules(rules: Sequence[Rule.Config], decisions: Decisions) -> None:
    """Exclude what a rule objects to; all objections are told, the first gives the code.

    What a released selection has decided about stands, whatever the rules are now.
    """
    built = [(config.name, config.build()) for config in rules]
    new = [key for key in decisions.rows.keys if key not in decisions.standing]
    for row in decisions.rows.among(new).dicts():
        found = [(name, rule, problem) for name, rule in built if (problem := rule.problem(row))]
        if found:
            (code, rule, _), *_ = found
            reason = "; ".join(problem for *_, problem in found)
            decisions.excluded[row["volume_key"]] = Exclusion(code, reason, version=rule.VERSION)


def find_copies(
    config: CurateConfig, decisions: Decisions, base: release.Base, reviews: review.Reviews
) -> None:
    """Drop copies, and say of every volume which others it belongs to."""
    here = frozenset(decisions.kept)
    rows = decisions.rows.among(here)
    slices = config.library / SLICES
    found = find_duplicates(
        rows,
        slices if slices.is_file() else None,
        config.library,
        config.near_duplicate,
        config.workers,
        settled=base.settled & here,
        known=[edge for edge in base.edges if here >= set(edge.volumes)],
    )
    decisions.edges = review.judge_edges(reviews, decisions, found.edges)
    untouchable = {key for key, judgement in reviews.volumes.items() if judgement == "keep"}
    decisions.representative = represent(rows, decisions.edges, base.standing, untouchable)
    decisions.supersedes = superseding(rows, decisions.representative, base.standing)


def thin_out(config: CurateConfig, decisions: Decisions) -> None:
    """Leave out what is surplus beside what is kept; nothing that a release keeps."""
    if config.diversity is None:
        return
    rows = decisions.rows.among(decisions.kept)
    surplus = {
        key: Exclusion(
            "surplus",
            "many are alike, and enough of them are kept",
            "diversity",
            version=config.diversity.name,
            representative=found.representative,
            metric="cosine of embeddings",
            score=found.cosine,
        )
        for key, found in surplus_volumes(config.diversity, rows, config.embeddings).items()
        if decisions.standing.get(key) != RELEASED and key not in decisions.judged
    }
    for key, shown_by in list(decisions.representative.items()):
        if shown_by in surplus:  # its copies go with it
            reason = "a copy of a volume that is surplus"
            surplus[key] = surplus[shown_by]._replace(reason_code="copy_of_surplus", reason=reason)
            del decisions.representative[key]
    decisions.excluded |= surplus


def _base(config: CurateConfig, rows: CatalogRows) -> release.Base:
    if config.based_on is None:
        return release.Base({}, frozenset(), {}, {}, [], {}, 0)
    judged_by = config.near_duplicate.model_dump(mode="json")
    return release.read_base(config.library, config.based_on, rows, judged_by)


def _finish(config: CurateConfig, run: StageRun, decisions: Decisions) -> StageResult:
    proofs, root = decisions.proofs(), ledger.MerkleRoot()
    reasons: Counter[str] = Counter()
    told = ledger.rooted(ledger.ledger_rows(decisions, proofs, _facts(run)), root, reasons)
    tables.write_table(run.folder / ledger.FILE, told, ledger.LEDGER_COLUMNS)
    edges = map(vars, decisions.edges)
    tables.write_table(run.folder / release.EDGES, edges, tables.EDGE_COLUMNS)
    if not decisions.kept:
        said = ", ".join(f"{code} {count}" for code, count in reasons.most_common())
        raise InputError(
            f"no volume would be kept; excluded were: {said or 'none, the catalog is empty'}",
            hint=f"loosen the rules, or look at {ledger.FILE} in the selection's folder",
        )
    kept = kept_rows(decisions, proofs)
    tables.write_table(run.folder / "kept.parquet", kept, tables.KEPT_COLUMNS)
    open_pairs = review.borderline(decisions.edges, decisions.judged, BORDERLINE)
    review.write_borderline(run.folder / review.FILE, open_pairs)
    page = run.folder / "report.html"
    large = write_report(
        page, config.library, decisions, proofs, open_pairs, config.pictures, config.embeddings
    )
    summary, look_at = summarise(decisions, reasons), dict(LOOK_AT)
    if large:
        summary["large_groups"] = len(large)
        _log.warning(
            "%d group(s) of many patients stay together, the largest with %d patients: the report "
            "says which pairs join them",
            len(large),
            max(group["patients"] for group in large),
        )
    outputs = {
        "selection": tables.digest_of_kept(run.folder),
        "ledger": root.hexdigest(),
        "report": digest_file(page),
    }
    if config.slices is not None:
        rows = decisions.rows.among(decisions.kept)
        path = run.folder / SAMPLING
        found = write_sampling_table(path, config.slices, config.library, rows, config.workers)
        summary |= {"slices": found.slices, "slices_kept": found.kept}
        summary |= {f"slices: {reason}": count for reason, count in found.reasons.items()}
        look_at["every slice"], outputs["sampling"] = SAMPLING, found.digest
    return run.finish(summary=summary, look_at=look_at, stays=["report.html"], outputs=outputs)


def _facts(run: StageRun) -> ledger.RunFacts:
    manifest = Manifest.read(run.folder)
    if manifest is None:
        raise AssertionError("a stage under way has a manifest")
    versions = manifest.versions
    return ledger.RunFacts(
        config_digest=manifest.config_digest,
        catalog_digest=manifest.inputs["catalog"],
        code_version=f"{versions['package.medssl']} {versions['git_commit'][:12]}",
        run_id=digest_json([manifest.config_digest, manifest.inputs])[:12],
        time=manifest.started_at,
    )
