"""Files that can be read back."""

from typing import ClassVar

from medssl.curation.rules.base import CatalogRow, Rule, flags_of


class DamagedVolume(Rule):
    """Excludes volumes whose file in the library was found damaged."""

    VERSION: ClassVar[str] = "1"

    class Config(Rule.Config):
        pass

    def problem(self, row: CatalogRow) -> str | None:
        """Look at the flag that ingestion sets when a volume cannot be read back."""
        if "damaged_volume" not in flags_of(row):
            return None
        return "its file in the library is damaged; ingest its sources again with --repair"
