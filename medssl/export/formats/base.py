"""What an export format is: it writes a folder, proves that it works, and says what it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from medssl.config.choice import Configurable
from medssl.export.model_card import CardConfig


@dataclass(frozen=True, kw_only=True)
class Papers:
    """What a format says for the model card; the stage writes it, with all else that goes along."""

    title: str
    """Heading of the card."""
    usage: str
    """How to open the artefact, as Markdown."""
    facts: Mapping[str, Any]
    """What the model is: its network, and what it is to be fed."""
    front_matter: str = ""
    """What stands above the card, between two ``---``."""
    member: str = ""
    """What an evaluation calls the model; empty for one that no evaluation scores."""


class Format(Configurable):
    """``write``, then ``verify`` what was written through its consumer.

    Beside what a format writes, the stage puts model card, LICENSE, ``provenance.json`` and
    ``SHA256SUMS``, and a signature where a key is given: a format writes none of these.
    """

    class Config(Configurable.Config):
        """The options of one format."""

    readme: ClassVar[str] = "README.md"
    """Where in the artefact its consumers look for the model card."""

    def __init__(self, config: Config) -> None:
        self.config: Any = config

    def digests(self, run: Path) -> dict[str, str]:
        """Return the digests of what would be exported.

        Raises:
            InputError: ``run`` does not hold what this format exports, or a package is missing;
                in a table of all formats the problem is the reason why there is none.
        """
        raise NotImplementedError

    def write(self, run: Path, folder: Path, card: CardConfig) -> None:
        """Write the artefact of ``run`` into the empty ``folder``."""
        raise NotImplementedError

    def verify(self, run: Path, folder: Path) -> dict[str, Any]:
        """Reload ``folder`` as its users would, compare it with ``run``, return what was found.

        ``opened_by`` says through what it was reloaded. The other entries are for the card.

        Raises:
            VerificationError: The reloaded artefact differs from what was exported.
        """
        raise NotImplementedError

    def papers(self, run: Path, card: CardConfig) -> Papers:
        """Return what the model card of this format says of ``run``."""
        raise NotImplementedError
