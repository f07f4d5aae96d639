"""Something to see."""

import math
from typing import Annotated, ClassVar

from pydantic import Field

from medssl.curation.rules.base import CatalogRow, Rule


class ConstantOrEmpty(Rule):
    """Excludes volumes of one value, and CT of nothing but air."""

    VERSION: ClassVar[str] = "1"

    class Config(Rule.Config):
        air_below_hu: Annotated[float, Field(lt=0)] = -700.0
        """A CT whose 99th percentile lies below it shows no body."""

    config: Config

    def problem(self, row: CatalogRow) -> str | None:
        """Compare the 1st and 99th percentile, so that a few burned-in pixels do not help."""
        p01, p99 = float(row["p01"]), float(row["p99"])
        if not (math.isfinite(p01) and math.isfinite(p99)):
            return "no finite intensities"
        if row["min"] == row["max"]:
            return f"every voxel is {p01:g}"
        if p01 == p99:
            return f"98 % of the voxels or more are {p01:g}"
        if row["intensity"] == "hu" and p99 < self.config.air_below_hu:
            return f"only air: 99 % of the voxels are below {p99:.0f} HU"
        return None
