"""The specification's table of edge cases, as files whose every voxel is known."""

import re

from pipelines.benchmarks.cases import files, geometry, grouping, meaning, nifti_files, real
from pipelines.benchmarks.cases.case import Case

__all__ = ["CASES", "Case"]


def _in_order(case: Case) -> tuple[str, int, str]:
    """Sort the rows of the table first, then the real series, the others and NIfTI."""
    kind, number, rest = re.fullmatch(r"([A-Z]*)(\d+)(.*)", case.row).groups()  # type: ignore[union-attr]
    return " RKN"["RKN".find(kind or "x") + 1], int(number), rest


CASES: list[Case] = sorted(
    [
        *grouping.CASES,
        *geometry.CASES,
        *meaning.CASES,
        *files.CASES,
        *real.CASES,
        *nifti_files.CASES,
    ],
    key=_in_order,
)
"""Every row."""
