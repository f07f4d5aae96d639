"""The model card: what a stranger must know before using the weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medssl import __version__
from medssl.config.base import Config
from medssl.errors import InputError
from medssl.runs.digest import digest_file
from medssl.runs.folder import read_json

NOT_STATED = "not stated"


class CardConfig(Config):
    """What only the exporting person knows."""

    authors: str = NOT_STATED
    """Who answers for the model."""
    licence: str = NOT_STATED
    """Licence of the weights, such as CC-BY-SA-4.0; mind the licence of the training data."""
    licence_file: Path | None = None
    """File with the licence's text."""
    intended_use: str = "Research. Not a medical device, not for clinical decisions."
    """What the model is for."""
    evaluation: Path | None = None
    """Folder of a finished `medssl evaluate`, whose numbers the card shows."""

    def digests(self) -> dict[str, str]:
        """Return the digests of the files the card is made from.

        Raises:
            InputError: A file is missing.
        """
        files = {"licence": self.licence_file, "evaluation": self._metrics_file()}
        for path in files.values():
            if path is not None and not path.is_file():
                raise InputError(
                    f"{path}: there is no such file", hint="correct the section `card`"
                )
        return {name: digest_file(path) for name, path in files.items() if path is not None}

    def licence_text(self) -> str:
        """Return the text for LICENSE."""
        if self.licence_file is not None:
            return self.licence_file.read_text(encoding="utf-8")
        if self.licence != NOT_STATED:
            return f"The weights in this folder are licensed under: {self.licence}\n"
        return (
            "No licence was stated for these weights when they were exported.\n"
            "Ask the authors before you use or share them.\n"
        )

    def metrics(self) -> dict[str, Any] | None:
        """Return what the evaluation found, if there is one."""
        path = self._metrics_file()
        return None if path is None else dict(read_json(path))

    def _metrics_file(self) -> Path | None:
        return None if self.evaluation is None else self.evaluation / "metrics.json"


def render(
    title: str,
    card: CardConfig,
    *,
    usage: str,
    facts: Mapping[str, Any],
    verified: Mapping[str, Any],
    scores: Sequence[str] = (),
) -> str:
    """Return the card as Markdown.

    Args:
        title: Its heading.
        card: What the exporting person said.
        usage: How to open the artefact, as Markdown.
        facts: What the model is and comes from.
        verified: What the export checked before it was kept.
        scores: Lines about how good it is; empty when nobody measured.
    """
    measured = [f"- {line}" for line in scores] or ["Not evaluated at the time of export."]
    caution = (
        "Scans from other scanners, protocols, regions or populations than those it was trained "
        "on may give confident nonsense. Look at the results."
    )
    sections = {
        "Use": [usage],
        "What it is": [f"- {_words(name)}: {value}" for name, value in facts.items()],
        "How good it is": measured,
        "Checked at export": [f"- {_words(name)}: {value}" for name, value in verified.items()],
        "Limits": [card.intended_use, "", caution],
        "Authors and licence": [f"- Authors: {card.authors}", f"- Licence: {card.licence}"],
    }
    lines = [f"# {title}", "", f"Exported by medssl {__version__}."]
    for heading, body in sections.items():
        lines += ["", f"## {heading}", "", *body]
    return "\n".join(lines) + "\n"


def score_lines(metrics: Mapping[str, Any] | None, member: str) -> list[str]:
    """Return what an evaluation found about one model: the headline's score of every answer."""
    metric, found = headline_scores(metrics, member)
    if metrics is None or not found:
        return []
    title = next(about["title"] for about in metrics["shown"] if about["column"] == metric)
    lines = [f"{title}, {name}: {_interval(value)}" for name, value in found.items()]
    about = (
        f"Over {metrics['patients']} patients held aside ({metrics['split']}), with a "
        f"{metrics['confidence']:.0%} bootstrap interval"
    )
    return [*lines, about, str(metrics["verdict"])]


def headline_scores(metrics: Mapping[str, Any] | None, member: str) -> tuple[str, dict[str, Any]]:
    """Return the name of an evaluation's main metric, and one model's scores by answer."""
    if metrics is None:
        return "", {}
    metric = metrics["headline"]["metric"]
    return metric, metrics["scores"][metric].get(member, {})


def _interval(value: Mapping[str, Any]) -> str:
    if value["value"] is None:
        return "not measured"
    if value["low"] is None:
        return f"{value['value']:.3f} (no interval)"
    return f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"


def _words(name: str) -> str:
    return name.replace("_", " ")
