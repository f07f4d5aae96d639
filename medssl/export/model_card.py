"""The model card: what a stranger must know before using the weights."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medssl import __version__
from medssl.config.base import Config
from medssl.errors import InputError
from medssl.evaluation.paired.trust import TRUST, card_section
from medssl.export.card_scores import METRICS, SCORES, probe_lines, score_lines, zero_shot_lines
from medssl.export.origin import NOT_STATED, lineage
from medssl.runs.digest import digest_file
from medssl.runs.folder import read_json

if TYPE_CHECKING:
    from medssl.export.formats.base import Papers

NOT_FOR_DIAGNOSIS = "Not a medical device: not for diagnosis, and not for decisions about patients."

_CAUTION = (
    "Scans from other scanners, protocols, regions or populations than those it was trained "
    "on may give confident nonsense. Look at the results."
)
_SHOWN_SETTINGS = ("method", "encoder", "task", "strategy", "optimizer", "schedule", "data", "seed")
_MOST_VALUES = 12


class CardConfig(Config):
    """What only the exporting person knows."""

    authors: str = NOT_STATED
    """Who answers for the model."""
    licence: str = NOT_STATED
    """Licence of the weights, such as CC-BY-SA-4.0; mind the licence of the training data."""
    licence_file: Path | None = None
    """File with the licence's text."""
    data_licence: str | None = None
    """Licence of the data it learned from; null: as the data set states it."""
    parent_licence: str | None = None
    """Licence of published weights that training began with."""
    intended_use: str = "Research. Not a medical device, not for clinical decisions."
    """What the model is for."""
    limits: tuple[str, ...] = ()
    """Where it is known to fail, a sentence each."""
    evaluation: Path | None = None
    """Folder of a finished `medssl evaluate`, whose numbers the card shows."""
    probe: Path | None = None
    """Folder of a finished `medssl probe`: what an encoder knows without fine-tuning."""
    zero_shot: Path | None = None
    """Folder of a finished `medssl zeroshot`, of a model of images and reports."""
    trust: Path | None = None
    """Folder of a finished `medssl trust`, of a model of images and reports."""

    def digests(self) -> dict[str, str]:
        """Return the digests of the files the card is made from.

        Raises:
            InputError: A file is missing.
        """
        files = {
            "licence": self.licence_file,
            "evaluation": _inside(self.evaluation, METRICS),
            "probe": _inside(self.probe, SCORES),
            "zero_shot": _inside(self.zero_shot, SCORES),
            "trust": _inside(self.trust, TRUST),
        }
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
        path = _inside(self.evaluation, METRICS)
        return None if path is None else dict(read_json(path))

    def scores(self, member: str) -> list[str]:
        """Return lines about how good the model is; empty when nobody measured."""
        lines = score_lines(self.metrics(), member)
        if self.probe is not None:
            lines += probe_lines(read_json(self.probe / SCORES))
        if self.zero_shot is not None:
            lines += zero_shot_lines(read_json(self.zero_shot / SCORES))
        return lines


def render(
    papers: "Papers",
    card: CardConfig,
    *,
    origin: Mapping[str, Any],
    licences: Mapping[str, Any],
    verified: Mapping[str, Any],
) -> str:
    """Return the card as Markdown.

    Args:
        papers: What the format says of the model.
        card: What the exporting person said.
        origin: Where the weights come from, as ``medssl.export.origin.trace`` finds it.
        licences: Of weights, data and the weights before them.
        verified: What the export checked before it was kept.
    """
    measured = [f"- {line}" for line in card.scores(papers.member)]
    sections: dict[str, Sequence[str]] = {
        "Use": [papers.usage],
        "What it is": _list(papers.facts),
        **_history(origin),
        "How good it is": measured or ["Not evaluated at the time of export."],
        **_trust(card),
        "Checked at export": _list(verified),
        "Limits": [f"- {line}" for line in (*card.limits, _CAUTION)],
        "Intended use": [card.intended_use, "", NOT_FOR_DIAGNOSIS],
        "Authors and licence": [f"- Authors: {card.authors}", *_licence_lines(licences)],
    }
    lines = [f"# {papers.title}", "", f"Exported by medssl {__version__}. {NOT_FOR_DIAGNOSIS}"]
    for heading, body in sections.items():
        lines += ["", f"## {heading}", "", *body]
    return "\n".join(lines) + "\n"


def _history(origin: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the sections on data, curation and method; those of weights before it as well."""
    told: dict[str, list[str]] = {}
    for number, run in enumerate(lineage(origin)):
        whose = f" of the {'weights before ' * number}it".replace("before it", "it began with")
        title = f" ({run.get('stage')}{whose if number else ''})"
        data = dict(run.get("data") or {})
        curation = data.pop("curation", {})
        settings = run.get("settings") or {}
        shown = {name: settings[name] for name in _SHOWN_SETTINGS if name in settings}
        for name, tree in (("Data", data), ("Curation", curation), ("Training", shown)):
            if tree:
                told[f"{name}{title}"] = _list(tree)
    return told or {"Data": ["No run folder was there to tell what it learned from."]}


def _trust(card: CardConfig) -> dict[str, list[str]]:
    if card.trust is None:
        return {}
    heading, _, *body = card_section(card.trust).rstrip().split("\n")
    return {heading.removeprefix("## "): body}


def _licence_lines(licences: Mapping[str, Any]) -> Iterator[str]:
    yield f"- Licence: {licences['weights']}"
    yield f"- Licence of the data: {licences['data']}"
    for number, licence in enumerate(licences["parents"], start=1):
        yield f"- Licence of what it began with, {number} back: {licence}"


def _inside(folder: Path | None, name: str) -> Path | None:
    return None if folder is None else folder / name


def _list(tree: Mapping[str, Any]) -> list[str]:
    return [f"- {_words(name)}: {_value(value)}" for name, value in tree.items()]


def _value(value: Any) -> str:
    """Return a value on one line, sections as ``name value`` pairs; nothing of None."""
    if isinstance(value, Mapping):
        pairs = [f"{_words(k)} {_value(v)}" for k, v in value.items() if v is not None]
        more = len(pairs) - _MOST_VALUES
        rest = [f"and {more} more in provenance.json"] if more > 0 else []
        return ", ".join([*pairs[:_MOST_VALUES], *rest])
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return " ".join(str(value).split())


def _words(name: str) -> str:
    return str(name).replace("_", " ")
