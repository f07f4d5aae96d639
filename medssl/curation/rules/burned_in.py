"""No text in the pixels: it teaches a network to read, and may name the patient."""

from typing import ClassVar, Final

from medssl.curation.rules.base import CatalogRow, Rule, flags_of

_FLAGS: Final = ("burned_in", "burned_in_risk", "burned_in_text")


class BurnedIn(Rule):
    """Excludes what is said, or was found, to have text or marks burned in.

    Ingestion skips what says so at the door, and with its option `ocr` what shows so; the rule is
    for catalogs of other origin.
    """

    VERSION: ClassVar[str] = "1"

    class Config(Rule.Config):
        pass

    def problem(self, row: CatalogRow) -> str | None:
        """Look at the flags."""
        found = [flag for flag in _FLAGS if flag in flags_of(row)]
        return f"text or marks in its pixels ({found[0]}), wanted none" if found else None
