"""The command that predicts: an exported model, over scans."""

from pathlib import Path
from typing import Annotated

import typer

from medssl.cli.options import DryRun, Overwrite, Refined


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this file to ``app``."""
    app.command()(predict)


def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", show_default=False)],
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT|KEY=VALUE", help="NIfTI files or DICOM folders."),
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for the masks.")] = None,
    config: Refined = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Exported model and scans to masks on the scans' own grids."""
    from medssl.cli.run import Request, split_overrides

    paths, overrides = split_overrides(inputs)
    given = {"model": model, "inputs": paths, "out": out}
    Request("predict", config, given, overrides, overwrite, dry_run).run()
