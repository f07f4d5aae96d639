"""Diffusion weighting that is wanted, or none."""

from typing import Annotated, ClassVar

from pydantic import Field

from medssl.curation.rules.base import CatalogRow, Rule


class BValue(Rule):
    """Excludes MR of stronger diffusion weighting; what states none passes."""

    VERSION: ClassVar[str] = "1"

    class Config(Rule.Config):
        at_most: Annotated[float, Field(ge=0)] = 0.0
        """Largest b-value in s/mm2; 0 lets only images without diffusion weighting pass."""

    config: Config

    def problem(self, row: CatalogRow) -> str | None:
        """Trust the header, or what told the volumes of its series apart."""
        stated = [row["b_value"]] if row["b_value"] is not None else _told(row)
        found = max(stated, default=0.0)
        if found <= self.config.at_most:
            return None
        return f"diffusion weighting of {found:g} s/mm2, wanted at most {self.config.at_most:g}"


def _told(row: CatalogRow) -> list[float]:
    facts = (str(fact).partition("=") for fact in row["split_by"] or ())
    return [float(value) for name, _, value in facts if name == "b_value" and _is_number(value)]


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal()
