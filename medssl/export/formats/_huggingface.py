"""What makes a folder a model repository of Hugging Face: the head of its README.md."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from medssl.export.origin import NOT_STATED

LICENCES = frozenset(
    {
        "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc", "cc-by-3.0", "cc-by-4.0",
        "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-3.0",
        "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0", "gpl-3.0",
        "agpl-3.0", "lgpl-3.0", "mit", "mpl-2.0", "odbl", "openrail", "pddl", "unlicense",
    }
)  # fmt: skip
"""Those that Hugging Face knows by name and that weights come under."""

_NO_SLUG = re.compile(r"[^a-z0-9.]+")


def front_matter(licence: str, *, library: str, about: Mapping[str, Any]) -> str:
    """Return the YAML between two ``---`` that Hugging Face reads licence, library and tags from.

    Args:
        licence: As the card states it; one that Hugging Face has no name for is ``other``, whose
            text is the file LICENSE.
        library: What opens the weights.
        about: The encoder's description, as a pretraining leaves it.
    """
    head = {
        **_licence(licence),
        "library_name": library,
        "pipeline_tag": "image-feature-extraction",
        "tags": ["medical", "self-supervised", *_components(about)],
    }
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n\n"


def _licence(stated: str) -> dict[str, str]:
    slug = _NO_SLUG.sub("-", stated.lower()).strip("-")
    if stated == NOT_STATED:
        return {"license": "unknown"}
    if slug in LICENCES:
        return {"license": slug}
    return {"license": "other", "license_name": slug or "other", "license_link": "LICENSE"}


def _components(about: Mapping[str, Any]) -> list[str]:
    """Return the names of the encoder and of the method that trained it."""
    parts = (about.get(part) for part in ("encoder", "method"))
    return [str(part["name"]) for part in parts if isinstance(part, Mapping) and "name" in part]
