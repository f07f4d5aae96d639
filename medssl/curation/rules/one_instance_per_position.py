"""One image of every place: no phases, echoes or repetitions that share their positions."""

from typing import ClassVar

from medssl.curation.rules.base import CatalogRow, Rule, flags_of

PLACES_DIFFER = ("orientation", "stack", "block", "matrix", "frames", "study", "modality")


class OneInstancePerPosition(Rule):
    """Excludes volumes of a series in which several images lie at one place.

    Ingestion makes a volume of each phase, so nothing is wrong with them; they show the same
    body several times. Corpora that count instances per position leave such series out.
    """

    VERSION: ClassVar[str] = "1"

    class Config(Rule.Config):
        may_differ: tuple[str, ...] = PLACES_DIFFER
        """Facts that may tell the volumes of one series apart: those that go with other places."""
        allow_copies: bool = True
        """Let a series pass that held some images twice, pixel by pixel."""

    config: Config

    def problem(self, row: CatalogRow) -> str | None:
        """Look at what told the volumes of the series apart."""
        told_by = sorted({fact.partition("=")[0] for fact in row["split_by"] or ()})
        repeated = [name for name in told_by if name not in self.config.may_differ]
        if repeated:
            return (
                f"its series has several images of each place, told apart by "
                f"{' and '.join(repeated)}; wanted one"
            )
        if "copies_dropped" in flags_of(row) and not self.config.allow_copies:
            return "its series held images twice, wanted one of each place"
        return None
