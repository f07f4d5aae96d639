"""Stage: a library to a selection of it: rules, copies, splits, a report. No voxel is copied."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, SerializeAsAny

from medssl.config.base import Config
from medssl.config.choice import choice
from medssl.curation import selection as tables
from medssl.curation.decisions import Decisions, excluded_rows, kept_rows, summarise
from medssl.curation.duplicates import find_duplicates
from medssl.curation.edges import NearDuplicateConfig
from medssl.curation.report import write_report
from medssl.curation.rules.base import Rule
from medssl.curation.rules.constant_or_empty import ConstantOrEmpty
from medssl.curation.rules.field_of_view import FieldOfView
from medssl.curation.rules.implausible_hu import ImplausibleHu
from medssl.curation.rules.localizer import Localizer
from medssl.curation.rules.modality import Modality
from medssl.curation.rules.slice_count import SliceCount
from medssl.curation.rules.spacing import Spacing
from medssl.curation.splits import SplitConfig, assert_no_leak, assign_splits, group_volumes
from medssl.errors import InputError
from medssl.library.catalog import catalog_digest, read_catalog
from medssl.runs.digest import digest_file
from medssl.runs.stage import StageResult, StageRun, open_stage
from medssl.runs.tracking import TrackingConfig
from medssl.runs.workers import Workers

RULES = "medssl.curation.rules"
DEFAULT_RULES: tuple[Rule.Config, ...] = (
    Modality.Config(),
    Localizer.Config(),
    SliceCount.Config(),
    FieldOfView.Config(),
    Spacing.Config(),
    ConstantOrEmpty.Config(),
    ImplausibleHu.Config(),
)


def _folder_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(f"{name!r} cannot name a folder; use letters, digits, dot, dash, _")
    return name


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
    splits: SplitConfig = SplitConfig()
    """How the kept volumes are divided."""
    pictures: Annotated[int, Field(ge=0)] = 60
    """Kept volumes shown in the report, and dropped ones; the tables name all."""
    workers: Workers = 0
    """Processes that compare volumes, 0 for one per core; or a cluster, as in `ingest`."""
    tracking: TrackingConfig = TrackingConfig()
    """Where the stage is recorded."""


def curate(config: CurateConfig, *, overwrite: bool = False) -> StageResult:
    """Decide which volumes of a library are worth learning from, and divide them.

    Leaves ``kept.parquet``, ``excluded.parquet``, ``pairs.parquet`` and ``report.html`` in the
    selection's folder. The result depends on the catalog and the configuration alone.

    Raises:
        InputError: the library has no catalog, or no volume would be kept.
        FolderError: a selection of that name was made otherwise.
    """
    digest = catalog_digest(config.library)
    with open_stage(
        "curate",
        tables.selection_folder(config.library, config.name),
        config,
        inputs={"catalog": digest},
        overwrite=overwrite,
        tracking=config.tracking,
    ) as run:
        if run.previous is not None:
            return run.previous
        decisions = decide(config)
        return _finish(config, run, decisions)


def decide(config: CurateConfig) -> Decisions:
    """Apply the rules, find the copies and draw the splits."""
    records = read_catalog(config.library).sort_values("volume_key").to_dict(orient="records")
    decisions = Decisions({str(row["volume_key"]): _plain(row) for row in records})
    apply_rules(config.rules, decisions)
    find_copies(config, decisions)
    draw_splits(config.splits, decisions)
    return decisions


def apply_rules(rules: Sequence[Rule.Config], decisions: Decisions) -> None:
    """Exclude what a rule objects to; all objections are told, the first gives the code."""
    built = [(config.name, config.build()) for config in rules]
    for key, row in decisions.rows.items():
        found = [(name, problem) for name, rule in built if (problem := rule.problem(row))]
        if found:
            decisions.excluded[key] = found[0][0], "; ".join(problem for _, problem in found)


def find_copies(config: CurateConfig, decisions: Decisions) -> None:
    """Drop copies, and say of every volume which others it belongs to."""
    rows = [decisions.rows[key] for key in decisions.kept]
    found = find_duplicates(rows, None, config.library, config.near_duplicate, config.workers)
    decisions.edges = found.edges
    decisions.representative = found.representative


def draw_splits(config: SplitConfig, decisions: Decisions) -> None:
    """Divide the kept volumes; every edge counts, and so does every dropped volume's patient.

    A group takes its place in line by its voxels, not by a pseudonym: the same scans are divided
    alike under any key.
    """
    patient_of = {key: str(row["patient_key"]) for key, row in decisions.rows.items()}
    edges = [edge.volumes for edge in decisions.edges]
    decisions.group = group_volumes(patient_of, edges)
    modality_of = {key: str(decisions.rows[key]["modality"]) for key in decisions.kept}
    content_of: dict[str, str] = {}
    for key in decisions.kept:
        group, digest = decisions.group[key], str(decisions.rows[key]["voxel_digest"])
        content_of[group] = min(digest, content_of.get(group, digest))
    by_content = {key: content_of[decisions.group[key]] for key in decisions.kept}
    decisions.split = assign_splits(by_content, modality_of, config)
    assert_no_leak(decisions.split, patient_of, edges)


def _finish(config: CurateConfig, run: StageRun, decisions: Decisions) -> StageResult:
    kept, excluded = kept_rows(decisions), excluded_rows(decisions)
    tables.write_table(run.folder / "excluded.parquet", excluded, tables.EXCLUDED_COLUMNS)
    pairs = [asdict(edge) for edge in decisions.edges]
    tables.write_table(run.folder / "pairs.parquet", pairs, tables.PAIR_COLUMNS)
    if not kept:
        counts = Counter(row["reason_code"] for row in excluded)
        said = ", ".join(f"{code} {count}" for code, count in counts.most_common())
        raise InputError(
            f"no volume would be kept; excluded were: {said or 'none, the catalog is empty'}",
            hint="loosen the rules, or look at excluded.parquet in the selection's folder",
        )
    tables.write_table(run.folder / "kept.parquet", kept, tables.KEPT_COLUMNS)
    write_report(run.folder / "report.html", config.library, kept, excluded, config.pictures)
    return run.finish(
        summary=summarise(decisions),
        look_at={"report": "report.html", "kept": "kept.parquet", "excluded": "excluded.parquet"},
        stays=["report.html"],
        outputs={
            "selection": tables.selection_digest(kept),
            "report": digest_file(run.folder / "report.html"),
        },
    )


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a catalog row with plain lists; None, or an empty word, where nothing is known."""
    words = ("patient_key", "study_key", "series_key", "modality", "intensity", "image_type")
    plain = {str(k): v.tolist() if hasattr(v, "tolist") else v for k, v in row.items()}
    plain = {k: None if v != v else v for k, v in plain.items()}  # noqa: PLR0124  not a number
    return plain | {word: plain[word] if isinstance(plain[word], str) else "" for word in words}
