"""Only the modalities that are wanted."""

from typing import Annotated, ClassVar

from pydantic import Field

from medssl.curation.rules.base import CatalogRow, Rule


class Modality(Rule):
    """Excludes every other modality, ``unknown`` included."""

    VERSION: ClassVar[str] = "1"

    class Config(Rule.Config):
        allowed: Annotated[tuple[str, ...], Field(min_length=1)] = ("CT", "MR")
        """Modalities that may stay, as in the catalog."""

    config: Config

    def problem(self, row: CatalogRow) -> str | None:
        """Compare without regard to case."""
        allowed = {name.upper() for name in self.config.allowed}
        if str(row["modality"]).upper() in allowed:
            return None
        found = f"modality {row['modality']}, wanted {' or '.join(self.config.allowed)}"
        if row["modality"] == "unknown" and row["source_format"] == "nifti":
            return f"{found} (`modalities` of ingest says it of NIfTI files)"
        return found
