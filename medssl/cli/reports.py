"""The commands around reports: look at them, and pair them with the scans of a library."""

from pathlib import Path
from typing import Annotated, Any

import typer

from medssl.cli.options import Config, DryRun, Overrides, Overwrite

_reports = typer.Typer(
    no_args_is_help=True,
    help="Reports: look at them, and pair them with the scans of a library.",
)


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this file to ``app``."""
    app.add_typer(_reports, name="reports")


@_reports.command()
def pair(
    config: Config,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Reports and a library to pairs: no identifiers, sections, findings, one per study."""
    from medssl.cli.run import Request

    Request("pair", config, {}, overrides or [], overwrite, dry_run).run()


@_reports.command()
def check(
    reports: Annotated[
        Path,
        typer.Argument(
            metavar="REPORTS", help="CSV, TSV or JSONL; or a folder of text files and DICOM SR."
        ),
    ],
    overrides: Overrides = None,
    text: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column of whole reports.")
    ] = None,
    ontology: Annotated[
        str | None,
        typer.Option(help="chest_ct, chexpert, abdomen, brain, or a YAML file like those."),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Page to write.")] = None,
) -> None:
    """What `medssl reports pair` would make of reports: sections, findings, identifiers.

    Needs no library and leaves nothing but the page. Further settings as in its file, such as
    sources.sections.findings=Findings_EN or reading.strict=false.
    """
    from medssl.cli.console import near, say
    from medssl.cli.run import user_errors_explained
    from medssl.config.load import validate

    with user_errors_explained():
        from medssl.reports.check import CheckConfig
        from medssl.reports.check import check as look

        tree: dict[str, Any] = {"sources": {"path": str(reports)}}
        tree["sources"] |= {} if text is None else {"text": text}
        tree["reading"] = {} if ontology is None else {"ontology": ontology}
        settings = validate(CheckConfig, tree, where="reports check", overrides=overrides or [])
        facts = look(settings, out)
        width = max(map(len, facts))
        say(*(f"  {name:<{width}}  {value}" for name, value in facts.items()))
        say(f"Look at {near(out)}" if out else "--out FILE.html writes a page with the evidence.")
