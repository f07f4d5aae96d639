"""The command that exports: a run, to what another tool opens."""

from pathlib import Path
from typing import Annotated

import typer

from medssl.cli.options import DryRun, Overrides, Overwrite, Refined


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this file to ``app``."""
    app.command()(export)


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", show_default=False)],
    overrides: Overrides = None,
    form: Annotated[
        str | None, typer.Option("--format", help="encoder_folder or monai_bundle.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write.")] = None,
    config: Refined = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Run to what another tool opens, reloaded there and compared before it is kept."""
    from medssl.cli.run import Request

    given = {"run": run, "format": {"name": form} if form else None, "out": out}
    Request("export", config, given, overrides or [], overwrite, dry_run).run()
