"""The stage that joins reports to a library: each becomes a pair, or a row with a reason."""

import csv
import io
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from medssl.curation.selection import read_selection
from medssl.errors import InputError
from medssl.io.deidentify import Pseudonymizer
from medssl.reports.join import LibraryJoin, Volume
from medssl.reports.pair_config import PairConfig
from medssl.reports.pairs import INDEX, PAIRS, Pair, write_pairs
from medssl.reports.reading import Reader, ReadReport
from medssl.reports.report_page import PAGE, write_report_page
from medssl.reports.sources import RawReport, Refused, ReportSource, read_reports
from medssl.runs.digest import digest_file, digest_json
from medssl.runs.folder import write_text
from medssl.runs.progress import track
from medssl.runs.stage import StageResult, StageRun, open_stage

__all__ = ["PairConfig", "pair"]

REFUSED: Final = "refused.csv"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Joined:
    """A report that was read, and the volumes it is about."""

    raw: RawReport
    report: ReadReport
    study_key: str
    volumes: tuple[Volume, ...]


def pair(config: PairConfig, *, overwrite: bool = False) -> StageResult:
    """Read reports, remove identifiers, find sections and findings, and join them to volumes.

    Leaves the pairs, ``refused.csv`` (a row for every report, study and volume without one) and
    ``report.html``. Nothing is written before all reports are read, which takes milliseconds each;
    an interrupted run starts again.

    Raises:
        InputError: Something that is named is missing, the key is another one, or no report makes
            a pair.
        FolderError: ``out`` holds something else.
    """
    pseudonymizer = Pseudonymizer.from_key_file(config.key_file)
    selection = read_selection(config.library, config.selection)
    join = LibraryJoin(config.library, selection, pseudonymizer)
    reader = Reader(config.reading)
    inputs = {
        "selection": selection.digest,
        "reports": _source_digest(config.sources),
        "rules": _rules_digest(config, reader),
        "key": pseudonymizer.key_id,
    }
    with open_stage(
        "pair", config.out, config, inputs=inputs, tracking=config.tracking, overwrite=overwrite
    ) as run:
        if run.previous is not None:
            return run.previous
        read, refused = _read_all(config.sources, reader, join)
        chosen, passed_over = _one_per_study(read, config, reader)
        spoken_of = {each.study_key for each in read}
        refused += [*passed_over, *join.refused, *_without_report(join, spoken_of)]
        return _finish(config, run, reader, chosen, refused)


def _read_all(
    source: ReportSource, reader: Reader, join: LibraryJoin
) -> tuple[list[_Joined], list[Refused]]:
    read, refused = list[_Joined](), list[Refused]()
    for raw in track(read_reports(source), "read reports"):
        outcome = _read_one(raw, reader, join) if isinstance(raw, RawReport) else raw
        if isinstance(outcome, Refused):
            refused.append(outcome)
        else:
            read.append(outcome)
    return read, refused


def _read_one(raw: RawReport, reader: Reader, join: LibraryJoin) -> _Joined | Refused:
    found = join.find(raw)
    if isinstance(found, Refused):
        return found
    study_key, volumes = found
    report = reader.read(raw)
    if isinstance(report, Refused):
        return report._replace(study_key=study_key)
    return _Joined(raw, report, study_key, volumes)


def _one_per_study(
    read: Sequence[_Joined], config: PairConfig, reader: Reader
) -> tuple[list[_Joined], list[Refused]]:
    groups: dict[str, list[_Joined]] = {}
    for each in read:
        groups.setdefault(each.study_key, []).append(each)
    chosen, refused = list[_Joined](), list[Refused]()
    for study_key, group in groups.items():
        taken = _of_several(group, config, reader) if len(group) > 1 else group[0]
        if isinstance(taken, _Joined):
            chosen.append(taken)
        used = {taken.raw.place} if isinstance(taken, _Joined) else set()
        used |= {each.raw.place for each in group} if config.several == "join" and used else set()
        refused += [
            Refused(
                each.raw.place, study_key, "several_reports", _several(len(group), config, taken)
            )
            for each in group
            if each.raw.place not in used
        ]
    return chosen, refused


def _of_several(group: Sequence[_Joined], config: PairConfig, reader: Reader) -> _Joined | None:
    """Return the one report that a study has in the end; None where it is not to be decided."""
    if config.several == "longest":
        return max(group, key=lambda each: sum(len(part.text) for part in each.report.sections))
    if config.several == "latest":
        ordered = sorted(group, key=lambda each: each.raw.date)
        return ordered[-1] if ordered[-1].raw.date > ordered[-2].raw.date else None
    if config.several == "refuse":
        return None
    raw = group[0].raw
    whole = RawReport(
        raw.place,
        raw.key,
        raw.key_kind,
        tuple(part for each in group for part in each.raw.parts),
        tuple(dict.fromkeys(value for each in group for value in each.raw.known)),
    )
    report = reader.read(whole)
    volumes = tuple(dict.fromkeys(volume for each in group for volume in each.volumes))
    return (
        None if isinstance(report, Refused) else _Joined(whole, report, group[0].study_key, volumes)
    )


def _several(count: int, config: PairConfig, taken: _Joined | None) -> str:
    if taken is not None:
        return f"one of {count} reports of its study; {config.several}: {taken.raw.place} was taken"
    if config.several == "latest":
        return (
            f"one of {count} reports of its study, and their dates do not say which is the latest"
        )
    return f"one of {count} reports of its study; `several` says what to do: latest, longest, join"


def _without_report(join: LibraryJoin, spoken_of: set[str]) -> Iterator[Refused]:
    for study_key in sorted(join.study_keys - spoken_of):
        yield Refused(
            "", study_key, "no_report", "the selection keeps it, and no usable report speaks of it"
        )


def _finish(
    config: PairConfig,
    run: StageRun,
    reader: Reader,
    chosen: Sequence[_Joined],
    refused: Sequence[Refused],
) -> StageResult:
    _write_refused(run.folder / REFUSED, refused)
    reports = [each.report for each in chosen]
    write_report_page(run.folder / PAGE, reports, refused, reader.ontology)
    if not chosen:
        raise InputError(_nothing_paired(refused), hint=f"see {run.folder / REFUSED}")
    pairs = [_pair(each) for each in chosen]
    digest = write_pairs(
        run.folder,
        pairs,
        reader.ontology.names,
        ontology=config.reading.ontology,
        selection=config.selection,
    )
    left = sum(sum(each.remaining.values()) for each in reports)
    if left:
        _log.warning("%d places in the reports still look like identifiers: strict is off", left)
    return run.finish(
        summary=_summary(pairs, reports, refused) | {"pairs_digest": digest},
        look_at={"report": PAGE, "pairs": INDEX, "table": PAIRS, "without a pair": REFUSED},
        stays=(PAGE, PAIRS),
        outputs={"pairs": digest},
    )


def _pair(each: _Joined) -> Pair:
    return Pair.model_validate(
        {
            "study_key": each.study_key,
            "patient_key": each.volumes[0].patient_key,
            "split": each.volumes[0].split,
            "volume_keys": tuple(volume.volume_key for volume in each.volumes),
            "sections": each.report.sections,
            "labels": each.report.reading.labels,
            "normal": each.report.reading.normal,
        }
    )


def _summary(
    pairs: Sequence[Pair], reports: Sequence[ReadReport], refused: Sequence[Refused]
) -> dict[str, Any]:
    splits = Counter(each.split for each in pairs)
    return {
        "pairs": len(pairs),
        **{f"pairs_{split}": count for split, count in sorted(splits.items())},
        "volumes": sum(len(each.volume_keys) for each in pairs),
        "normal": sum(each.normal is True for each in pairs),
        "different_texts": len({each.digest for each in reports}),
        "identifiers_removed": sum(sum(each.removed.values()) for each in reports),
        "identifiers_suspected": sum(sum(each.remaining.values()) for each in reports),
        "refused": len(refused),
        **{f"refused.{code}": n for code, n in Counter(r.code for r in refused).most_common()},
    }


def _nothing_paired(refused: Sequence[Refused]) -> str:
    counts = Counter(each.code for each in refused if each.place)
    found = ", ".join(f"{code} {count}" for code, count in counts.most_common())
    return f"no report makes a pair: {found or 'there is none'}"


def _write_refused(path: Path, refused: Sequence[Refused]) -> None:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(Refused._fields)
    rows.writerows(refused)
    write_text(path, text.getvalue())


def _source_digest(source: ReportSource) -> str:
    """Return a digest of the reports' bytes.

    Raises:
        InputError: There are none.
    """
    if not source.path.exists():
        raise InputError("there are no reports: what sources.path names does not exist")
    files = sorted(source.path.rglob("*")) if source.path.is_dir() else [source.path]
    return digest_json([digest_file(path) for path in files if path.is_file()])


def _rules_digest(config: PairConfig, reader: Reader) -> str:
    own = [path for path in (config.reading.headers, config.reading.context) if path is not None]
    return digest_json([reader.ontology.model_dump(mode="json"), *map(digest_file, own)])
