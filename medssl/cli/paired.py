"""Commands of models of images and reports: ask, look up, show where, and whether to trust."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from medssl.cli.options import DryRun, Overrides, Overwrite, Refined

Model = Annotated[
    Path,
    typer.Argument(metavar="MODEL", help="A pretraining's folder: report_contrast."),
]
Pairs = Annotated[Path, typer.Argument(metavar="PAIRS", help="What `medssl reports pair` made.")]
Store = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Crop store that holds the pairs' volumes.")
]
Findings = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="What to ask, such as configs/findings/ct_chest.yaml."),
]
Out = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for the results.")]
Modality = Annotated[str | None, typer.Option(help="What NIfTI files show: CT, or MR.")]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this file to ``app``."""
    for command in (zeroshot, embed, search, grounding, trust):
        app.command()(command)


def zeroshot(  # noqa: PLR0913, PLR0917  one argument per option
    model: Model,
    pairs: Pairs,
    overrides: Overrides = None,
    store: Store = None,
    findings: Findings = None,
    out: Out = None,
    config: Refined = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Image-text model and studies to findings asked in words, and reports found by images."""
    given = {"model": model, "pairs": pairs, "store": store, "findings": findings, "out": out}
    _run("zeroshot", config, given, overrides, overwrite, dry_run)


def trust(  # noqa: PLR0913, PLR0917  one argument per option
    model: Model,
    pairs: Pairs,
    overrides: Overrides = None,
    store: Store = None,
    findings: Findings = None,
    out: Out = None,
    config: Refined = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Image-text model to what to know first: wording, negation, backdoors, fooling images."""
    given = {"model": model, "pairs": pairs, "store": store, "findings": findings, "out": out}
    _run("trust", config, given, overrides, overwrite, dry_run)


def embed(  # noqa: PLR0913, PLR0917  one argument per option
    model: Model,
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="PAIRS|SCAN|KEY=VALUE",
            help="Pairs, with --store; or NIfTI files, DICOM folders.",
        ),
    ],
    store: Store = None,
    modality: Modality = None,
    out: Out = None,
    config: Refined = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Studies and reports, or scans, to vectors: an index that `medssl search` looks in."""
    from medssl.cli.run import split_overrides

    paths, overrides = split_overrides(data)
    if store is not None and len(paths) != 1:
        raise typer.BadParameter("with --store give one folder of pairs")
    which = {"pairs": paths[0], "store": store} if store is not None else {"inputs": paths}
    given = {"model": model, **which, "modality": modality, "out": out}
    _run("embed", config, given, overrides, overwrite, dry_run)


def grounding(  # noqa: PLR0913, PLR0917  one argument per option
    model: Model,
    data: Annotated[
        list[str],
        typer.Argument(metavar="SCAN|KEY=VALUE", help="NIfTI files, DICOM folders."),
    ],
    phrase: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]WORDS", help="What to look for; may be given again."),
    ] = None,
    labels: Annotated[
        bool,
        typer.Option("--labels", help="SCAN is a labelled set: measure against its label maps."),
    ] = False,
    modality: Modality = None,
    out: Out = None,
    config: Refined = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Scans and words to maps of where the model sees them, measured where there are masks.

    Example:
    medssl grounding runs/report_clip data/spleen/dataset.json --labels
    --phrase "spleen=The spleen is enlarged." --out runs/grounding
    """
    from medssl.cli.run import split_overrides

    paths, overrides = split_overrides(data)
    if labels and len(paths) != 1:
        raise typer.BadParameter("with --labels give one labelled set")
    which = {"dataset": paths[0]} if labels else {"inputs": paths}
    named = [words.rpartition("=") for words in phrase or []]
    given = {
        "model": model,
        **which,
        "phrases": {name or words: words for name, _, words in named} or None,
        "modality": modality,
        "out": out,
    }
    _run("grounding", config, given, overrides, overwrite, dry_run)


def search(  # noqa: PLR0913, PLR0917  one argument per option
    model: Model,
    index: Annotated[Path, typer.Argument(metavar="INDEX", help="What `medssl embed` left.")],
    words: Annotated[
        str | None, typer.Argument(metavar="WORDS", help='Such as "pleural effusion".')
    ] = None,
    study: Annotated[
        str | None, typer.Option(metavar="KEY", help="Instead: studies like this one.")
    ] = None,
    scan: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Instead: studies like this scan.")
    ] = None,
    among: Annotated[
        Literal["images", "reports"], typer.Option(help="By what studies are found.")
    ] = "images",
    k: Annotated[int, typer.Option("-k", min=1, help="How many.")] = 10,
    modality: Annotated[str, typer.Option(help="What a NIfTI file shows: CT, or MR.")] = "CT",
    page: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Also show images and reports of what was found."),
    ] = None,
    trust_model: Annotated[
        bool, typer.Option("--trust-model", help="Import what the model names outside medssl.")
    ] = False,
) -> None:
    """Studies of an index that are nearest to words, to another study, or to a scan."""
    from medssl.cli.console import near, say
    from medssl.cli.run import user_errors_explained

    with user_errors_explained():
        from medssl.evaluation.paired.search import Query, write_search_page
        from medssl.evaluation.paired.search import search as nearest

        query = Query(words, study, scan)
        found = nearest(
            model, index, query, among=among, k=k, modality=modality, trust_names=trust_model
        )
        say(*(f"{hit.cosine:+.3f}  {hit.study_key}" for hit in found.hits))
        if page is not None:
            write_search_page(page, index, query, found)
            say("", f"Page: {near(page)}")


def _run(
    command: str,
    config: Path | None,
    given: dict[str, Any],
    overrides: list[str] | None,
    overwrite: bool,
    dry_run: bool,
) -> None:
    from medssl.cli.run import Request

    Request(command, config, given, overrides or [], overwrite, dry_run).run()
