"""MR of strong enough a magnet."""

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from medssl.curation.rules.base import CatalogRow, Rule

_ROUNDING_T: Final = 0.1


class FieldStrength(Rule):
    """Excludes MR of weaker fields; other modalities are not judged."""

    VERSION: ClassVar[str] = "1"

    class Config(Rule.Config):
        at_least_t: Annotated[float, Field(ge=0)] = 1.5
        """Weakest field in tesla; 0.1 less is let pass, as scanners round."""
        unstated: Literal["pass", "exclude"] = "pass"
        """What becomes of MR that does not state it; a NIfTI file never does."""

    config: Config

    def problem(self, row: CatalogRow) -> str | None:
        """Trust the header."""
        if str(row["modality"]).upper() != "MR":
            return None
        found_t, wanted = row["field_strength_t"], f"wanted at least {self.config.at_least_t:g} T"
        if found_t is None:
            unknown = f"field strength not stated, {wanted}"
            return unknown if self.config.unstated == "exclude" else None
        if found_t >= self.config.at_least_t - _ROUNDING_T:
            return None
        return f"field strength {found_t:g} T, {wanted}"
