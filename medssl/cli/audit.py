"""What ``medssl privacy-audit`` prints: never an identifier, only what kind it is and where."""

from pathlib import Path

from medssl.cli.console import say
from medssl.errors import InputError
from medssl.privacy.audit import AuditReport, AuditRequest, audit
from medssl.runs.folder import write_json

_MOST_ROWS = 100


def show(request: AuditRequest, out: Path | None) -> int:
    """Search, print a table and the result, write the report to ``out``; return the exit code.

    Raises:
        InputError: nothing to search for is given.
    """
    if not request.sources and request.identifiers is None:
        raise InputError("nothing to search for", hint="give --source or --identifiers")
    report = audit(request)
    if out is not None:
        write_json(out, report.as_json())
    if report.findings:
        say(*_table(report))
    for name, why in report.not_searched.items():
        say(f"not searched to the end: {name}: {why}")
    if report.unread:
        say(f"{report.unread} files of the source cannot be read: only their names were sought")
    left_out = sum(report.left_out.values())
    if left_out:
        say(f"{left_out} values are too short or too common to be searched for")
    if report.exempt:
        say(f"{report.exempt} files were exempt")
    found = f"{len(report.findings)} findings" if report.findings else "none found"
    say(
        f"{report.identifiers} identifiers of {report.source_files} files searched in "
        f"{report.files} files, {report.bytes} bytes: {found}"
    )
    return 0 if report.is_clean else 1


def _table(report: AuditReport) -> list[str]:
    rows = [("kind", "identifier", "offset", "count", "file")]
    rows += [
        (
            finding.kind,
            finding.identifier,
            str(finding.offset) if finding.offset >= 0 else "name",
            str(finding.count),
            finding.file,
        )
        for finding in report.findings[:_MOST_ROWS]
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    ]
    more = len(report.findings) - _MOST_ROWS
    return lines + ([f"and {more} more; --out FILE lists them all"] if more > 0 else [])
