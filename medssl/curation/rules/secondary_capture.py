"""No pictures of a screen or of paper."""

from typing import ClassVar

from medssl.curation.rules.base import CatalogRow, Rule, flags_of, image_type_of
from medssl.io.dicom.vocabulary import SCREEN_TYPES


class SecondaryCapture(Rule):
    """Excludes screenshots, dose tables, protocols and scanned pages.

    Ingestion skips them at the door; the rule is for catalogs of other origin.
    """

    VERSION: ClassVar[str] = "1"

    class Config(Rule.Config):
        pass

    def problem(self, row: CatalogRow) -> str | None:
        """Look at the words of the image type, and at the flag."""
        found = sorted(image_type_of(row) & SCREEN_TYPES)
        if found or "secondary_capture" in flags_of(row):
            said = found[0] if found else "secondary capture"
            return f"a picture of a screen or page ({said}), wanted a scan"
        return None
