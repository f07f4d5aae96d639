"""Kinds of image that a study leaves out, by the scanner's own words."""

from typing import Annotated, ClassVar

from pydantic import Field

from medssl.curation.rules.base import CatalogRow, Rule, image_type_of


class ImageType(Rule):
    """Excludes images whose type holds one of some words, such as maps computed of diffusion MR.

    The catalog holds the words of DICOM's image type that the vocabulary knows. Series are never
    judged by their descriptions: those are free text, and do not enter a library.
    """

    VERSION: ClassVar[str] = "1"

    class Config(Rule.Config):
        excluded: Annotated[tuple[str, ...], Field(min_length=1)] = ("ADC", "FA", "TRACEW")
        """Words with which an image is left out, such as P for the phase of MR."""

    config: Config

    def problem(self, row: CatalogRow) -> str | None:
        """Compare without regard to case."""
        unwanted = sorted({word.upper() for word in self.config.excluded})
        found = [word for word in unwanted if word in image_type_of(row)]
        if not found:
            return None
        return f"image type {'/'.join(found)}, wanted none of {', '.join(unwanted)}"
