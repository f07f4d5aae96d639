"""Look at reports before anything is made of them: the same page, without a library."""

from pathlib import Path
from typing import Any

from medssl.errors import InputError
from medssl.reports.pair_config import CheckConfig
from medssl.reports.reading import Reader, ReadReport
from medssl.reports.report_page import page_facts, write_report_page
from medssl.reports.sources import RawReport, Refused, read_reports
from medssl.runs.progress import track

__all__ = ["CheckConfig", "check"]


def check(config: CheckConfig, page: Path | None = None) -> dict[str, Any]:
    """Read reports as ``medssl reports pair`` would, and return what came of it in numbers.

    Args:
        config: Which reports, and how they are read.
        page: HTML page to write.

    Raises:
        InputError: There are no reports, or something that is named is missing.
    """
    reader = Reader(config.reading)
    reports, refused = list[ReadReport](), list[Refused]()
    for raw in track(read_reports(config.sources, keyed=False), "read reports"):
        outcome = reader.read(raw) if isinstance(raw, RawReport) else raw
        if isinstance(outcome, Refused):
            refused.append(outcome)
        else:
            reports.append(outcome)
    if not reports and not refused:
        raise InputError("there are no reports in what sources.path names")
    if page is not None:
        write_report_page(page, reports, refused, reader.ontology)
    return page_facts(reports, refused)
