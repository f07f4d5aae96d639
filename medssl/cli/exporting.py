"""The commands that export: a run, to what another tool opens; and that check what was exported."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medssl.cli.options import DryRun, Overrides, Overwrite, Refined

if TYPE_CHECKING:
    from medssl.cli.run import Request
    from medssl.export.several import Row

_SEVERAL = ("all", ",")


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this file to ``app``."""
    app.command()(export)
    app.command()(verify)


def export(  # noqa: PLR0913, PLR0917  options, each by its name
    run: Annotated[Path, typer.Argument(metavar="RUN", show_default=False)],
    overrides: Overrides = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="NAME,...", help="encoder_folder, monai_bundle, ...; or all."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write.")] = None,
    sign_with: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Private key that signs what is written.")
    ] = None,
    config: Refined = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Run to what another tool opens, reloaded there and compared before it is kept.

    Of several formats each has a folder in OUT, and the run need not fit them all.
    """
    from medssl.cli.run import Request, user_errors_explained

    given: dict[str, Any] = {"run": run, "out": out, "signing_key": sign_with}
    if form is None or not any(mark in form for mark in _SEVERAL):
        given["format"] = {"name": form} if form else None
        Request("export", config, given, overrides or [], overwrite, dry_run).run()
        return
    if out is None:
        raise typer.BadParameter("of several formats each has a folder in --out")
    with user_errors_explained():
        from medssl.export.several import formats_named

        names = formats_named(form)
    requests = [
        Request("export", config, given | {"format": {"name": name}, "out": out / name},
                overrides or [], overwrite, dry_run)
        for name in names
    ]  # fmt: skip
    if dry_run:
        for request in requests:
            request.run()
        return
    _export_several(requests, overwrite=overwrite)


def verify(
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", show_default=False)] = None,
    public_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Whose signature there must be.")
    ] = None,
    new_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Make a key to sign with, and FILE.pub; nothing else."),
    ] = None,
) -> None:
    """Check that an exported folder is whole, unchanged, and signed; exit code 1 if it is not.

    Nothing in the folder is executed.
    """
    from medssl.cli.console import say
    from medssl.cli.run import user_errors_explained

    if (folder is None) == (new_key is None):
        raise typer.BadParameter("give the folder to check, or --new-key FILE")
    with user_errors_explained():
        if new_key is not None:
            from medssl.export.signature import fingerprint, make_key, read_public_key

            public = make_key(new_key)
            say(f"{new_key}: keep it to yourself; `medssl export --sign-with` takes it")
            say(
                f"{public}: give it away; its fingerprint is {fingerprint(read_public_key(public))}"
            )
        if folder is not None:
            from medssl.export.check import check_artefact

            found = check_artefact(folder, public_key)
            say(*found.lines())
            raise typer.Exit(0 if found.good else 1)


def _export_several(requests: "Sequence[Request]", *, overwrite: bool) -> None:
    """Export in several formats and print a table of what became of each."""
    from medssl.cli.console import say
    from medssl.cli.run import user_errors_explained
    from medssl.export.several import check_any, export_several

    with user_errors_explained():
        configs: list[Any] = [request.config() for request in requests]
        rows = export_several(configs, overwrite=overwrite)
        say(*_table(rows))
        check_any(rows)


def _table(rows: "Sequence[Row]") -> list[str]:
    """Return the rows as lines, columns under each other."""
    from rich.filesize import decimal

    head = ("format", "result", "files", "size", "verified by")
    cells = [
        (
            row.format,
            row.result,
            str(row.files) if row.folder else "-",
            decimal(row.size_bytes) if row.folder else "-",
            row.verified or row.why,
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in (head, *cells)) for column in range(len(head) - 1)]
    return [
        "  ".join(
            [*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]
        )
        for line in (head, *cells)
    ]
