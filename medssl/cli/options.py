"""Arguments and options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path, typer.Argument(metavar="CONFIG.yaml", show_default=False)]
Refined = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="YAML file with further settings."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Settings, as section.key=value."),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace what is finished, failed or of other settings; what was interrupted goes on.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check the configuration, print it whole, and stop.")
]
