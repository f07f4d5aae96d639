"""No scouts: a few slices that only served to plan the scan."""

from medssl.curation.rules.base import CatalogRow, Rule


class Localizer(Rule):
    """Excludes what the scanner called a localizer."""

    class Config(Rule.Config):
        pass

    def problem(self, row: CatalogRow) -> str | None:
        """Trust the header; short scouts without the word fall to ``slice_count``."""
        return "a localizer by its header" if row["localizer"] else None
