"""Slices, not projections of many of them onto one."""

from typing import ClassVar, Final

from medssl.curation.rules.base import CatalogRow, Rule, image_type_of
from medssl.io.dicom.vocabulary import PROJECTION_TYPES

_REFORMATS: Final = frozenset({"MPR", "REFORMATTED"})


class Projection(Rule):
    """Excludes projections (MIP, MinIP) and subtractions, and reformats on request.

    Ingestion skips projections at the door; the rule is for catalogs of other origin.
    """

    VERSION: ClassVar[str] = "1"

    class Config(Rule.Config):
        exclude_reformats: bool = False
        """Exclude slices that were cut anew from a volume (MPR) as well."""

    config: Config

    def problem(self, row: CatalogRow) -> str | None:
        """Look at the words of the image type."""
        unwanted = PROJECTION_TYPES | (_REFORMATS if self.config.exclude_reformats else set())
        found = sorted(image_type_of(row) & unwanted)
        return f"image type {'/'.join(found)}, wanted slices as scanned" if found else None
