"""The command that fine-tunes: once, or for every share of labels, seed and fold."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from medssl.cli.options import Config, DryRun, Overrides, Overwrite


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this file to ``app``."""
    app.command()(finetune)


def finetune(  # noqa: PLR0913, PLR0917  one argument per option
    config: Config,
    overrides: Overrides = None,
    from_scratch_twin: Annotated[
        bool | None,
        typer.Option(
            "--from-scratch-twin/--no-from-scratch-twin",
            help="Also train the same network from random weights.",
            show_default=False,
        ),
    ] = None,
    label_fractions: Annotated[
        str | None,
        typer.Option(
            metavar="LIST", help="Study: shares of the labelled patients, such as 0.02,0.1,1."
        ),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="LIST", help="Study: such as 0..4, or 0,1,5.")
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(metavar="K", help="Study: train K folds of each, which answer together."),
    ] = None,
    workers: Annotated[
        str | None,
        typer.Option(
            metavar="N|CLUSTER",
            help="Study: how many at a time, 0: as many as fit; or dask://host:port, or a YAML "
            "file.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Encoder and labelled scans to a task model, and its twin trained from scratch.

    With shares of labels, seeds or folds it is a study: every combination is trained from the
    encoder and from scratch, judged on patients that none of them saw, and collected into one
    page, with intervals and tests. Example:

    medssl finetune configs/finetune/hippocampus.yaml encoder_from=runs/voco out=runs/study
    --from-scratch-twin --label-fractions 0.02,0.1,1 --seeds 0..4 --workers 2
    """
    from medssl.cli.run import Request

    grid = {"label_fractions": label_fractions, "seeds": seeds, "folds": folds}
    asked = {name: value for name, value in grid.items() if value is not None}
    is_study = bool(asked) or _has_study(config, overrides or [])
    if workers is not None and not is_study:
        raise typer.BadParameter(
            "--workers belongs to a study: give --label-fractions, --seeds or --folds too"
        )
    given: dict[str, Any] = {"from_scratch_twin": from_scratch_twin}
    if is_study:
        given["study"] = asked | ({} if workers is None else {"workers": workers})
    name = "study" if is_study else "finetune"
    Request(name, config, given, overrides or [], overwrite, dry_run).run()


def _has_study(config: Path, overrides: Sequence[str]) -> bool:
    """Return whether the file or an override sets something of the section ``study``."""
    from medssl.cli.run import user_errors_explained
    from medssl.config.base import Config as AnyConfig
    from medssl.config.load import read_tree

    if any(item.startswith("study.") for item in overrides):
        return True
    with user_errors_explained():
        return "study" in read_tree(config, AnyConfig)
