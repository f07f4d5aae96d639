"""Headers that agree with what was measured."""

from typing import Annotated, ClassVar

from pydantic import Field

from medssl.curation.rules.base import CatalogRow, Rule, slice_axis_of, spacing_mm_of


class StatedSpacing(Rule):
    """Excludes volumes whose stated slice distance or thickness contradicts their positions.

    The catalog's spacing is measured from the positions of the slices. A NIfTI file states
    nothing beside its affine, so a spacing that was rewritten there cannot be seen here; the
    copies it makes are found by their voxels.
    """

    VERSION: ClassVar[str] = "1"

    class Config(Rule.Config):
        at_most_off: Annotated[float, Field(gt=0)] = 0.1
        """Share of the measured distance by which the stated distance may be off."""
        thickness_between: tuple[float, float] = (0.1, 10.0)
        """Stated thickness in measured distances: slices overlap and leave gaps, within reason."""

    config: Config

    def problem(self, row: CatalogRow) -> str | None:
        """Compare along the slices; what was resampled by ingestion has a distance of its own."""
        measured_mm = spacing_mm_of(row)[slice_axis_of(row)]
        step_mm, thickness_mm = row["stated_step_mm"], row["slice_thickness_mm"]
        if step_mm is not None and not {"uneven", "tilt"} & set(row["regularized"] or ()):
            off = abs(step_mm - measured_mm) / measured_mm
            if off > self.config.at_most_off and not self._is_gap(
                step_mm, thickness_mm, measured_mm
            ):
                return (
                    f"slices stated to be {step_mm:.3g} mm apart are {measured_mm:.3g} mm apart, "
                    f"wanted a difference of at most {100 * self.config.at_most_off:g} %"
                )
        low, high = self.config.thickness_between
        if thickness_mm is not None and not low <= thickness_mm / measured_mm <= high:
            return (
                f"slices stated to be {thickness_mm:.3g} mm thick are {measured_mm:.3g} mm apart, "
                f"wanted a thickness of {low:g} to {high:g} times the distance"
            )
        return None

    def _is_gap(self, step_mm: float, thickness_mm: float | None, measured_mm: float) -> bool:
        """Return whether the step is the gap alone, which some scanners write instead."""
        if thickness_mm is None:
            return False
        return abs(step_mm + thickness_mm - measured_mm) / measured_mm <= self.config.at_most_off
