"""The ``medssl`` command: one command per stage, each a thin call into the library."""

from pathlib import Path
from typing import Annotated, Any

import typer

from medssl.cli.exporting import add_commands as add_exporting
from medssl.cli.finetuning import add_commands as add_finetuning
from medssl.cli.options import Config, DryRun, Overrides, Overwrite, Refined
from medssl.cli.paired import add_commands as add_paired
from medssl.cli.prediction import add_commands as add_prediction
from medssl.cli.pretraining import add_commands as add_pretraining
from medssl.cli.reports import add_commands as add_reports
from medssl.cli.selections import add_commands
from medssl.cli.serving import add_commands as add_serving
from medssl.cli.text import add_commands as add_text
from medssl.cli.tracking import add_commands as add_tracking

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from medssl import __version__

        typer.echo(f"medssl {__version__}")
        raise typer.Exit


@app.callback()
def _medssl(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell more.")] = False,
    log_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also append log lines to FILE, as JSON.")
    ] = None,
) -> None:
    """Self-supervised pretraining for medical images: from scans to an encoder, and to masks.

    The same command again continues what was interrupted and skips what is done.

    Exit codes: 0 done, 1 something to correct, 2 wrong usage, 75 told to stop: start it again.
    """
    from medssl.cli.console import set_up

    set_up(verbose=verbose, log_file=log_file)


def _from_file(name: str, summary: str) -> None:
    """Add the command ``name``, all of whose settings come from a file and overrides."""

    @app.command(name, help=summary)
    def command(
        config: Config,
        overrides: Overrides = None,
        overwrite: Overwrite = False,
        dry_run: DryRun = False,
    ) -> None:
        from medssl.cli.run import Request

        Request(name, config, {}, overrides or [], overwrite, dry_run).run()


@app.command()
def ingest(  # noqa: PLR0913, PLR0917  one argument per option
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE|KEY=VALUE",
            help="Folders, files and archives (zip, tar) of scans; or addresses: "
            "s3://bucket/folder, dicomweb+https://host/dicom-web, dimse://TITLE@host:port, scp://TITLE@host:port.",
        ),
    ] = None,
    library: Annotated[Path | None, typer.Option(help="Library to make or to add to.")] = None,
    key_file: Annotated[Path | None, typer.Option(help="Secret key of the pseudonyms.")] = None,
    workers: Annotated[
        str | None,
        typer.Option(
            metavar="N|CLUSTER",
            help="Processes that convert, 0: one per core; or dask://host:port, or a YAML file.",
        ),
    ] = None,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            help="Go on forever: take in what is new as soon as it came to rest. Ctrl-C ends it.",
        ),
    ] = False,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Read every volume back, and convert again those that are damaged."
        ),
    ] = False,
    explain: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Say what became of this file, and do nothing else. Of an archive: a.zip!/member.",
        ),
    ] = None,
    config: Refined = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Scans (DICOM, NIfTI) to a library: converted once, without names, checked, described."""
    from medssl.cli.run import Request, explain_file, split_overrides

    if explain is not None:
        explain_file(explain, library, key_file)
        return
    paths, overrides = split_overrides(sources or [])
    given: dict[str, Any] = {
        "sources": paths or None,
        "library": library,
        "key_file": key_file,
        "workers": workers,
        "follow": {} if follow else None,
        "repair": repair or None,
    }
    Request("ingest", config, given, overrides, overwrite, dry_run).run()


@app.command()
def curate(  # noqa: PLR0913, PLR0917  one argument per option
    library: Annotated[Path, typer.Argument(metavar="LIBRARY", show_default=False)],
    overrides: Overrides = None,
    name: Annotated[str | None, typer.Option(help="What the selection is called.")] = None,
    review: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="What a person judged: borderline.csv, filled in."),
    ] = None,
    release: Annotated[
        bool,
        typer.Option("--release", help="Never change it again; later ones can be based on it."),
    ] = False,
    config: Refined = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Library to a selection: what is worth learning from, without copies, divided by patient."""
    from medssl.cli.run import Request

    given = {"library": library, "name": name, "review": review, "release": release or None}
    Request("curate", config, given, overrides or [], overwrite, dry_run).run()


@app.command()
def prepare(
    library: Annotated[Path, typer.Argument(metavar="LIBRARY", show_default=False)],
    overrides: Overrides = None,
    selection: Annotated[str | None, typer.Option(help="Selection made by curate.")] = None,
    out: Annotated[Path | None, typer.Option(help="Crop store to write.")] = None,
    config: Refined = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Selection to a crop store: one spacing, chunked, fast to read pieces of."""
    from medssl.cli.run import Request

    given = {"library": library, "selection": selection, "out": out}
    Request("prepare", config, given, overrides or [], overwrite, dry_run).run()


add_commands(app)
add_reports(app)


@app.command()
def adapt(  # noqa: PLR0913, PLR0917  one argument per option
    weights: Annotated[Path, typer.Argument(metavar="WEIGHTS", show_default=False)],
    overrides: Overrides = None,
    encoder: Annotated[
        str | None, typer.Option(help="Whose weights they are: swin_unetr, unet, segresnet, ...")
    ] = None,
    part: Annotated[
        str | None, typer.Option(help="Which of several networks in the file, such as teacher.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the encoder.")] = None,
    config: Refined = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Published weights to an encoder folder, with a report of what was loaded and what not."""
    from medssl.cli.run import Request

    given = {
        "weights": weights,
        "encoder": {"name": encoder} if encoder else None,
        "part": part,
        "out": out,
    }
    Request("adapt", config, given, overrides or [], overwrite, dry_run).run()


add_text(app)
add_pretraining(app)
_from_file("probe", "Encoders and labelled scans to what they know without fine-tuning.")
add_tracking(app)
add_finetuning(app)
add_paired(app)
_from_file("evaluate", "Task models to metrics with intervals, on scans they never saw.")


add_exporting(app)
add_prediction(app)
add_serving(app)


@app.command()
def deidentify(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SRC",
            help="Folder, file or archive (zip, tar) of DICOM, or an address as in `ingest`.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Argument(metavar="DST", show_default=False)] = None,
    overrides: Overrides = None,
    key_file: Annotated[Path | None, typer.Option(help="Secret key of the pseudonyms.")] = None,
    config: Refined = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """DICOM files to DICOM files that may leave: no identifiers, headers by allow-list."""
    from medssl.cli.run import Request

    given = {"sources": [source] if source else None, "out": out, "key_file": key_file}
    Request("deidentify", config, given, overrides or [], overwrite, dry_run).run()


@app.command("privacy-audit")
def privacy_audit(
    folder: Annotated[Path, typer.Argument(metavar="DIR", show_default=False)],
    source: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="SRC", help="Scans whose identifiers are sought: folder, file or archive."
        ),
    ] = None,
    identifiers: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Further identifiers, one a line.")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="Key of the pseudonyms: explains shifted dates.")
    ] = None,
    exempt: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Files within DIR that name scans by design."),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Report as JSON.")] = None,
) -> None:
    """Search every byte below DIR for identifiers of a source; exit code 1 if there are any.

    Also inside of archives, compressed files, tables, databases and base64.

    It cannot see text drawn into pixels, base64 within base64, what is encrypted
    or packed in ways it does not know (of zstd, 7z, rar, lz4, PDF, HDF5 and Arrow
    it says so), nor values too short or too common to be telling, which it counts.
    """
    from medssl.cli.audit import show
    from medssl.cli.run import user_errors_explained
    from medssl.privacy.audit import AuditRequest

    request = AuditRequest(folder, tuple(source or ()), identifiers, key_file, tuple(exempt or ()))
    with user_errors_explained():
        raise typer.Exit(show(request, out))


_from_file("run", "Several stages from one file; what still matches is skipped.")


@app.command()
def doctor(
    send_spool: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Send what runs below DIR could not send to MLflow."),
    ] = None,
) -> None:
    """Check this machine: Python, PyTorch, devices, decoders, disk, MLflow; say what to do."""
    from medssl.cli.doctor import examine, send
    from medssl.cli.run import user_errors_explained

    with user_errors_explained():
        raise typer.Exit(send(send_spool) if send_spool else examine())


def main() -> None:
    """Run the command line."""
    app(prog_name="medssl")


if __name__ == "__main__":
    main()
