"""Self-contained HTML pages of one look: no script, nothing fetched, no text taken for markup."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined

from medssl.runs.folder import write_text

KEY_LETTERS = 8
"""Enough of a pseudonym to find it in the tables."""


def write_page(path: Path, package: str, *, template: str = "report.html", **facts: Any) -> None:
    """Fill ``template`` of ``package`` with ``facts`` and write it, whole or not at all.

    The template extends ``page.html``, and may use ``short`` on pseudonyms.
    """
    templates = {
        name: files(where).joinpath(name).read_text(encoding="utf-8")
        for where, name in (("medssl.library", "page.html"), (package, template))
    }
    environment = Environment(
        loader=DictLoader(templates), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template(template)
    write_text(path, page.render(short=lambda key: key[:KEY_LETTERS], **facts))
