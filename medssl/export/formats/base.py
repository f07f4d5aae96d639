"""What an export format is: it writes a folder, and proves that the folder works."""

from pathlib import Path
from typing import Any

from medssl.config.choice import Configurable
from medssl.export.model_card import CardConfig


class Format(Configurable):
    """``write``, then ``verify`` what was written through its consumer, then ``document`` both."""

    class Config(Configurable.Config):
        """The options of one format."""

    def digests(self, run: Path) -> dict[str, str]:
        """Return the digests of what would be exported.

        Raises:
            InputError: ``run`` does not hold what this format exports.
        """
        raise NotImplementedError

    def write(self, run: Path, folder: Path, card: CardConfig) -> None:
        """Write the artefact of ``run`` into the empty ``folder``."""
        raise NotImplementedError

    def verify(self, run: Path, folder: Path) -> dict[str, Any]:
        """Reload ``folder`` as its users would, compare it with ``run``, return what was found.

        Raises:
            VerificationError: The reloaded artefact differs from what was exported.
        """
        raise NotImplementedError

    def document(self, run: Path, folder: Path, card: CardConfig, found: dict[str, Any]) -> None:
        """Write the licence, the model card and the provenance into ``folder``."""
        raise NotImplementedError
