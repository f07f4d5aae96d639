"""The command that predicts: a task model, over scans."""

from pathlib import Path
from typing import Annotated

import typer

from medssl.cli.options import DryRun, Overwrite, Refined


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this file to ``app``."""
    app.command()(predict)


def predict(  # noqa: PLR0913, PLR0917  options, each by its name
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Model of a finetuning, bundle, or models:/NAME@ALIAS of the registry.",
            show_default=False,
        ),
    ],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT|KEY=VALUE",
            help="NIfTI files, folders, archives (zip, tar), addresses such as dicomweb+https://.",
            show_default=False,
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for the masks.")] = None,
    to: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="What to write, such as nifti,dicom_seg."),
    ] = None,
    report: Annotated[
        bool | None, typer.Option("--report", help="Also write a page to look at.")
    ] = None,
    send: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Archive that DICOM outputs go to as well."),
    ] = None,
    config: Refined = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Task model and scans to masks on the scans' own grids, or to answers."""
    from medssl.cli.run import Request, split_overrides

    paths, overrides = split_overrides(inputs)
    outputs = [{"name": name.strip()} for name in to.split(",")] if to else None
    given = {"model": model, "inputs": paths, "out": out, "outputs": outputs, "report": report}
    given["send"] = send
    Request("predict", config, given, overrides, overwrite, dry_run).run()
