"""A CT must be in Hounsfield units, and its numbers must look like them."""

from typing import Annotated, ClassVar

from pydantic import Field

from medssl.curation.rules.base import CatalogRow, Rule


class ImplausibleHu(Rule):
    """Excludes CT without rescaling, windowed to 8 bits, or rescaled twice."""

    VERSION: ClassVar[str] = "1"

    class Config(Rule.Config):
        lowest_below_hu: float = -50.0
        """Even a crop inside the body holds fat; stored values and grey levels start at 0."""
        mean_below_hu: Annotated[float, Field(gt=0)] = 700.0
        """Not even a skull is mostly bone. Padding can pull the mean down, so there is no floor."""
        p99_between_hu: tuple[float, float] = (-200.0, 4000.0)
        """Some soft tissue is always in view; metal does not fill 1 % of the voxels."""

    config: Config

    def problem(self, row: CatalogRow) -> str | None:
        """Judge a CT, and whatever else says that it is in HU."""
        if row["intensity"] != "hu":
            unscaled = str(row["modality"]).upper() == "CT"
            return "a CT whose numbers are not Hounsfield units" if unscaled else None
        lowest, mean, p99 = float(row["min"]), float(row["mean"]), float(row["p99"])
        low, high = self.config.p99_between_hu
        if lowest > self.config.lowest_below_hu:
            return f"said to be in HU, but nothing is below {lowest:.0f}: fat and air are missing"
        if mean >= self.config.mean_below_hu:
            return f"said to be in HU, but the mean is {mean:.0f}"
        if p99 < low:
            return f"said to be in HU, but 99 % of the voxels are below {p99:.0f}: no soft tissue"
        if p99 > high:
            return f"said to be in HU, but 1 % of the voxels are {p99:.0f} and more"
        return None
