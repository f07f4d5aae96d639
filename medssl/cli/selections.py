"""Commands beside curate: why, what changed, what leaks, and which thresholds fit."""

from pathlib import Path
from typing import Annotated

import typer

Library = Annotated[Path, typer.Option(help="The library.")]
Name = Annotated[str, typer.Option(help="The selection.")]


def explain(
    item: Annotated[
        str,
        typer.Argument(
            metavar="ITEM", help="Key of a volume, or its beginning; VOLUME:INDEX for a slice."
        ),
    ],
    library: Library,
    name: Name,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Also as a page with pictures of the volumes."),
    ] = None,
) -> None:
    """Why a volume is kept, dropped or excluded in a selection, and beside what.

    Exit codes: 0 told, 1 no such item or selection.
    """
    from medssl.cli.console import near, say
    from medssl.cli.run import user_errors_explained
    from medssl.curation import explain as explaining

    with user_errors_explained():
        key, _, index = item.partition(":")
        if index.isdecimal():
            say(*explaining.explain_slice(library, name, key, int(index)))
            return
        found = explaining.explain(library, name, item)
        say(*explaining.as_text(found))
        if out is not None:
            explaining.write_explanation(out, library, found)
            say(f"with pictures: {near(out)}")


def diff(
    before: Annotated[str, typer.Argument(metavar="BEFORE", show_default=False)],
    after: Annotated[str, typer.Argument(metavar="AFTER", show_default=False)],
    library: Library,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Every change, one a line.")
    ] = None,
    most: Annotated[int, typer.Option(help="Lines shown of each kind of change.")] = 20,
) -> None:
    """What changed from one selection of a library to another: in, out, moved, other reasons.

    Exit codes: 0 compared, whatever the result; 1 no such selection.
    """
    from medssl.cli.console import near, say
    from medssl.cli.run import user_errors_explained
    from medssl.curation.difference import changes, count_changes, write_changes
    from medssl.curation.selection import finished_folder

    with user_errors_explained():
        folders = [finished_folder(library, name) for name in (before, after)]
        counts, first = count_changes(changes(*folders), most)
        for change, count in sorted(counts.items()):
            say(f"{change}: {count}")
            told = [row for row in first if row.change == change]
            say(*(f"  {row.item}  {row.before} -> {row.after}" for row in told))
            if count > len(told):
                say(f"  and {count - len(told)} more; --out FILE lists them all")
        if not counts:
            say("nothing differs")
        if out is not None:
            write_changes(out, changes(*folders))
            say(f"all changes: {near(out)}")


def audit_leakage(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="What was seen: a library, LIBRARY:SELECTION, LIBRARY:SELECTION:SPLIT, a folder "
            "or file of scans, a Decathlon dataset.json, or dataset.json:training.",
            show_default=False,
        ),
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="What should be new.", show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="Settings of `ingest` for files, such as 'modalities={*: CT}'.",
        ),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(help="Key of the library's pseudonyms: patients are compared too."),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that compare, 0: one per core.")] = 0,
    out: Annotated[Path | None, typer.Option(metavar="FILE.json", help="All of it.")] = None,
) -> None:
    """Whether B holds scans of A: copies, resampled, re-reconstructed, parts, the same patients.

    Exit codes: 0 nothing leaks, 1 something leaks, or cannot be read.
    """
    from medssl.cli.leakage import LeakageRequest, show
    from medssl.cli.run import user_errors_explained

    with user_errors_explained():
        request = LeakageRequest(a, b, key_file, tuple(overrides or ()), workers)
        raise typer.Exit(show(request, out))


def calibrate(
    library: Annotated[Path, typer.Argument(metavar="LIBRARY", show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Settings, such as false_positive_rate=0.001."),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that compare, 0: one per core.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.yaml", help="The thresholds, for `curate --config`."),
    ] = None,
) -> None:
    """Thresholds of `curate` from pairs that this library's own headers confirm.

    Exit codes: 0 found, 1 too few pairs to say anything.
    """
    from medssl.cli.calibration import show
    from medssl.cli.run import user_errors_explained

    with user_errors_explained():
        show(library, tuple(overrides or ()), workers, out)


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this file to ``app``."""
    app.command()(explain)
    app.command()(diff)
    app.command("audit-leakage")(audit_leakage)
    app.command()(calibrate)
