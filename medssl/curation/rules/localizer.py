"""No scouts: a few slices that only served to plan the scan."""

from typing import ClassVar

from medssl.curation.rules.base import CatalogRow, Rule, image_type_of
from medssl.io.dicom.vocabulary import LOCALIZER_TYPES


class Localizer(Rule):
    """Excludes what the scanner called a localizer."""

    VERSION: ClassVar[str] = "2"

    class Config(Rule.Config):
        pass

    def problem(self, row: CatalogRow) -> str | None:
        """Trust the header; short scouts without the word fall to ``slice_count``."""
        named = bool(image_type_of(row) & LOCALIZER_TYPES)
        return "a localizer by its header, wanted a scan" if row["localizer"] or named else None
