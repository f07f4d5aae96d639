"""The command that asks frozen encoders what they know."""

from pathlib import Path
from typing import Annotated

import typer


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this file to ``app``."""
    app.command()(probe)


def probe(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Settings, as section.key=value."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what the folder holds, if made otherwise.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the configuration, print it whole, and stop.")
    ] = False,
) -> None:
    """Encoders and labelled scans to what they know without fine-tuning."""
    from medssl.cli.run import Request

    Request("probe", config, {}, overrides or [], overwrite, dry_run).run()
