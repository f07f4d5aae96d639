"""The commands around text encoders: look at one, and train one on reports."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medssl.cli.options import DryRun, Overrides, Overwrite, Refined

if TYPE_CHECKING:
    from medssl.evaluation.text_check import Checked

_text = typer.Typer(
    no_args_is_help=True, help="Text encoders: look at one, and train one on reports."
)


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this file to ``app``."""
    app.add_typer(_text, name="text")


@_text.command()
def train(
    corpus: Annotated[
        Path,
        typer.Argument(
            metavar="CORPUS",
            help="Pairs made by `medssl reports pair`, or a text file of one report a line.",
            show_default=False,
        ),
    ],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the text encoder.")] = None,
    config: Refined = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Reports to a text encoder of their own language: pieces of words, then a transformer.

    Text files must hold no identifiers: words become part of the model.
    """
    from medssl.cli.run import Request

    given = {"corpus": corpus, "out": out}
    Request("train_text", config, given, overrides or [], overwrite, dry_run).run()


@_text.command()
def check(
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH",
            help="Folder of a model (config.json, weights, tokenizer) or of `medssl text train`; "
            "or minilm.",
            show_default=False,
        ),
    ],
) -> None:
    """What a text encoder is, and whether it tells a finding from its absence."""
    from medssl.cli.console import say
    from medssl.cli.run import user_errors_explained

    with user_errors_explained():
        from medssl.evaluation.text_check import check_text_encoder, open_text_encoder

        say(*in_words(check_text_encoder(open_text_encoder(path))))


def in_words(checked: "Checked") -> list[str]:
    """Return what was found as lines for people."""
    facts = {
        "text encoder": f"{checked.encoder} ({checked.network})",
        "parameters": f"{checked.parameters:,}",
        "blocks": str(checked.blocks),
        "length of a vector": str(checked.width),
        "longest text": f"{checked.max_tokens} tokens",
        "pieces of words": f"{checked.pieces:,}",
        "tokens per word": f"{checked.tokens_per_word:.2f}",
        "speed here": f"{checked.sentences_per_s:.0f} sentences/s",
    }
    width = max(len(row.finding) for row in checked.negations)
    rows = [
        f"  {row.finding:<{width}}  {row.cosine:>6.3f}  {row.nearest:>6.3f}"
        for row in checked.negations
    ]
    mean = sum(row.cosine for row in checked.negations) / len(checked.negations)
    confused = sum(row.cosine > row.nearest for row in checked.negations)
    return [
        *(f"  {name:<18}  {value}" for name, value in facts.items()),
        "",
        'Cosine of "There is X." with "There is no X.", and with the likest other finding',
        f"  {'':<{width}}  {'no X':>6}  {'other':>6}",
        *rows,
        f"  {'mean':<{width}}  {mean:>6.3f}",
        f"Left and right: {checked.side_cosine:.3f}",
        "",
        f"For {confused} of {len(checked.negations)} findings the absence is likelier meant than "
        "any other finding."
        + (" Let a part of it train (train: lora, last_n or full)." if confused else ""),
    ]
