"""Images as the scanner made them, not computed from others."""

from typing import ClassVar

from medssl.curation.rules.base import CatalogRow, Rule, flags_of, image_type_of


class Derived(Rule):
    """Excludes what says that it was derived from other images: maps, averages, reformats.

    Many such are good scans by another name; where only some are unwanted, name the others in
    ``allowed``.
    """

    VERSION: ClassVar[str] = "1"

    class Config(Rule.Config):
        allowed: tuple[str, ...] = ()
        """Words of the image type with which a derived image may stay, such as MPR."""
        secondary: bool = True
        """Exclude SECONDARY as well as DERIVED."""

    config: Config

    def problem(self, row: CatalogRow) -> str | None:
        """Look at the words of the image type."""
        words = image_type_of(row)
        unwanted = {"DERIVED", "SECONDARY"} if self.config.secondary else {"DERIVED"}
        found = sorted(words & unwanted) or (["DERIVED"] if "derived" in flags_of(row) else [])
        if not found or words & {word.upper() for word in self.config.allowed}:
            return None
        return f"image type {'/'.join(found)}, wanted ORIGINAL and PRIMARY"
