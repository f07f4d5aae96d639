"""What goes along with every artefact: model card, licence, provenance, digests, a signature."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medssl import __version__
from medssl.export.checksums import write_checksums
from medssl.export.formats.base import Format
from medssl.export.model_card import CardConfig, render
from medssl.export.origin import NOT_STATED, PROVENANCE, lineage, trace
from medssl.export.signature import sign, write_signer
from medssl.runs.environment import describe
from medssl.runs.folder import write_json, write_text

LICENCE = "LICENSE"


def write_papers(
    folder: Path,
    form: Format,
    run: Path,
    card: CardConfig,
    found: Mapping[str, Any],
    signing_key: Path | None = None,
) -> None:
    """Write all papers into a finished artefact; the list of digests last, then its signature.

    Args:
        folder: The artefact, in which nothing changes afterwards.
        form: What wrote it.
        run: What was exported.
        card: What the exporting person says.
        found: What was verified.
        signing_key: A private key; None for no signature.
    """
    papers, origin = form.papers(run, card), trace(run)
    under = licences(card, origin)
    text = render(papers, card, origin=origin, licences=under, verified=found)
    write_text(folder / form.readme, papers.front_matter + text)
    write_text(folder / LICENCE, card.licence_text())
    provenance = {
        "medssl": __version__,
        "format": form.config.model_dump(mode="json"),
        "licences": under,
        "exported_with": describe(),
        "verified": dict(found),
        "about": dict(papers.facts),
        "origin": origin,
    }
    write_json(folder / PROVENANCE, provenance)
    if signing_key is not None:
        write_signer(folder, signing_key)
    write_checksums(folder)
    if signing_key is not None:
        sign(folder, signing_key)


def licences(card: CardConfig, origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return under which licences weights, data and the weights before them are.

    Those of weights before them are told from the newest on; what the card says is of the oldest.
    """
    newest, *before = lineage(origin) or [{}]
    parents = [str(run.get("licence", NOT_STATED)) for run in before]
    if card.parent_licence:
        parents[-1:] = [card.parent_licence]
    recorded = (newest.get("data") or {}).get("licence", NOT_STATED)
    return {
        "weights": card.licence,
        "data": card.data_licence or str(recorded),
        "parents": parents,
    }
