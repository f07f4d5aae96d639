"""The commands around MLflow: name a model, ask where it comes from, compare runs, look at them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from medssl.runs.compare import Row
    from medssl.runs.destination import Destination, TrackingConfig
    from medssl.runs.mlflow.lineage import Step
    from medssl.runs.record import Record

_SHOWN = 12
_KINDS = {"setting": "Set otherwise", "number": "What came of it", "digest": "Made of"}
_WIDEST = 44
_TABLE, _FIGURE = "comparison.csv", "curves.png"

Store = Annotated[
    str | None,
    typer.Option(
        metavar="URI",
        help="MLflow store; else MLFLOW_TRACKING_URI, or the database beside the runs.",
    ),
]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this file to ``app``."""
    app.command()(register)
    app.command()(lineage)
    app.command()(compare)
    app.command()(board)


def register(
    run: Annotated[Path, typer.Argument(metavar="RUN", show_default=False)],
    name: Annotated[str, typer.Option(help="What the model is called in the registry.")],
    alias: Annotated[
        str | None, typer.Option(help="A name for this version, such as champion.")
    ] = None,
    store: Store = None,
) -> None:
    """Task model to MLflow's registry: one model of a finetune run, or an exported bundle."""
    from medssl.cli.console import say
    from medssl.cli.run import user_errors_explained

    with user_errors_explained():
        from medssl.export.register import register as register_model

        tracking = _named(store) if store else None
        done = register_model(run, name=name, alias=alias, tracking=tracking)
        say(
            f"{done.name}, version {done.version}, weights {done.digest[:_SHOWN]}, "
            f"from run {done.run_id}",
            f'  mlflow.pyfunc.load_model("{done.uri}").predict("scan.nii.gz")',
            f"  medssl lineage {done.uri}",
        )


def lineage(
    model: Annotated[str, typer.Argument(metavar="models:/NAME@ALIAS", show_default=False)],
    store: Store = None,
) -> None:
    """Where a registered model comes from: encoder, store, selection, library."""
    from medssl.cli.console import say
    from medssl.cli.run import user_errors_explained

    with user_errors_explained():
        from medssl.runs.mlflow.lineage import lineage as walk

        say(model, *lineage_in_words(walk(_store(store, Path()), model)))


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...", help="Folders of stages, ids of MLflow runs, or models:/NAME@ALIAS."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help=f"Also leave {_TABLE} and {_FIGURE} there."),
    ] = None,
    store: Store = None,
) -> None:
    """Runs side by side: what was set otherwise, what came of it, made of what; their curves."""
    from medssl.cli.console import near, say
    from medssl.cli.run import user_errors_explained

    with user_errors_explained():
        from medssl.runs.compare import compare as rows_of
        from medssl.runs.compare import draw_curves, unique_labels, write_table

        records = [_record(run, store) for run in runs]
        rows = rows_of(records)
        say(*comparison_in_words(unique_labels(records), rows))
        if out is not None:
            write_table(out / _TABLE, records, rows)
            drawn = draw_curves(out / _FIGURE, records)
            say("", f"Table: {near(out / _TABLE)}")
            say(f"Curves: {near(out / _FIGURE)}" if drawn else "No run has a curve to draw.")


def board(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="What runs were written to.")
    ] = Path(),
    port: Annotated[int, typer.Option(help="One of the next is taken if it is in use.")] = 5000,
    show: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in a browser.")
    ] = True,
) -> None:
    """MLflow's page on the runs of a folder, for this machine alone; Ctrl-C ends it."""
    from medssl.cli.console import say
    from medssl.cli.run import user_errors_explained

    with user_errors_explained():
        from medssl.runs.board import find_store, serving
        from medssl.runs.destination import Destination

        store = find_store(folder)
        if store.startswith(("http://", "https://")):  # a server is running somewhere already
            _show(Destination(store, "", None).shown, show)
            return
        with serving(store, port) as (address, page):
            _show(address, show)
            say("Ctrl-C ends it.")
            try:
                page.wait()
            except KeyboardInterrupt:
                say("Ended.")


def _show(address: str, wanted: bool) -> None:
    import webbrowser

    typer.echo(f"MLflow: {address}")
    if wanted:
        webbrowser.open(address)


def _store(uri: str | None, folder: Path) -> "Destination":
    """Return the store that a command asks: the one named, or the one of the runs in ``folder``."""
    from medssl.runs.board import find_store
    from medssl.runs.destination import Destination, destination

    return destination(_named(uri), folder) if uri else Destination(find_store(folder), "", None)


def _named(uri: str) -> "TrackingConfig":
    """Return the store that was typed; a password is refused, and never shown."""
    from pydantic import ValidationError

    from medssl.errors import ConfigError
    from medssl.runs.destination import TrackingConfig

    try:
        return TrackingConfig(uri=uri)
    except ValidationError:
        raise ConfigError(
            "--store holds a user name or a password, which others on this machine could read",
            hint="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead",
        ) from None


def _record(run: str, store: str | None) -> "Record":
    from medssl.runs.mlflow.history import is_run, read_run
    from medssl.runs.record import read_folder

    folder = Path(run)
    if folder.is_dir() or not is_run(run):
        return read_folder(folder)
    return read_run(_store(store, Path()), run)


def lineage_in_words(steps: "Sequence[Step]") -> list[str]:
    """Return a walk as lines for people, each thing indented below what was made of it."""
    from datetime import UTC, datetime

    lines = []
    for step in steps:
        made = "no run of this store made it"
        if step.run_id is not None:
            time = datetime.fromtimestamp((step.started_ms or 0) / 1000, UTC)
            made = f"{step.stage}, run {step.run_id}, {time:%Y-%m-%d %H:%M} UTC"
            made += f", under {step.parent_run_id}" if step.parent_run_id else ""
        label = f"{'  ' * (step.depth + 1)}{step.what}"
        lines.append(f"{label:<22} {step.digest[:_SHOWN]}  {made}")
    return lines


def comparison_in_words(labels: Sequence[str], rows: "Sequence[Row]") -> list[str]:
    """Return a comparison as lines for people: a column per run, long values cut in the middle."""
    header = ("", *labels)
    table = {kind: [(r.name, *r.values) for r in rows if r.kind == kind] for kind in _KINDS}
    every = [header, *(line for lines in table.values() for line in lines)]
    widths = [min(_WIDEST, max(len(line[n]) for line in every)) for n in range(len(header))]
    words = [_line(header, widths)]
    for kind, title in _KINDS.items():
        lines = [_line(line, widths) for line in table[kind]]
        words += ["", title, *(lines or ["nothing"])]
    return words


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(f"{_fitting(c, w):<{w}}" for c, w in zip(cells, widths, strict=True)).rstrip()


def _fitting(text: str, width: int) -> str:
    half = (width - 3) // 2
    return text if len(text) <= width else f"{text[:half]}...{text[-half:]}"
