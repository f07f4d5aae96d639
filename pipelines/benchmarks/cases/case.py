"""What one row of the table is: files to write, and what must become of each of them."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.benchmarks.cases.phantoms import Array, affine_ras, exact_field_hu

ROUNDING = 0.51
"""Voxels that were not resampled hold F, rounded to the step of their stored type."""

RESAMPLED = 1.0
SHAPE = (16, 14, 12)
"""Columns, rows, slices of most series."""
AXIAL = affine_ras()

Field = Callable[[Array], Array]


@dataclass(frozen=True, eq=False)
class Expected:
    """One volume that must come out.

    Attributes:
        affine_ras: (4, 4), (column, row, slice) of what was scanned to RAS+ mm; its axes need
            not be at right angles.
        shape: columns, rows and slices that were scanned.
        field: F, the value at points (..., 3) in RAS mm.
        tolerance: by how much a voxel may differ from F.
        intensity: what the numbers must be known to be; "" where that is left open.
        regularized: what must be recorded as resampled.
        flags: what must be noticed.
    """

    affine_ras: Array = field(default_factory=AXIAL.copy)
    shape: tuple[int, int, int] = SHAPE
    field: Field = exact_field_hu
    tolerance: float = ROUNDING
    intensity: str = "hu"
    regularized: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Expect:
    """What must become of the files of a case.

    Attributes:
        volumes: what must come out; None where the files themselves are the truth.
        others: files that become no volume, by (outcome, reason).
        count: of volumes, where ``volumes`` is None; None for any number.
        either: other outcomes as good as ``others``.
        fair: what a reader that does not refuse the files may make of them without a lie.
    """

    volumes: tuple[Expected, ...] | None = ()
    others: Mapping[tuple[str, str], int] = field(default_factory=dict)
    count: int | None = None
    either: tuple[str, ...] = ()
    fair: tuple[Expected, ...] = ()

    def __str__(self) -> str:
        """Return it in a few words, for a table."""
        count = len(self.volumes) if self.volumes is not None else self.count
        made = [f"{'any' if count is None else count} vol"] if count != 0 else []
        return ", ".join([*made, *shown(self.others)])


@dataclass(frozen=True, eq=False)
class Case:
    """One row: ``build`` writes its files below a folder that may not exist yet."""

    row: str
    title: str
    build: Callable[[Path], object]
    expect: Expect
    config: Mapping[str, object] = field(default_factory=dict)
    absent: str = ""
    """Why it cannot be run here, "" where it can."""

    @property
    def name(self) -> str:
        """Return row and title as one word."""
        return f"{self.row}-{self.title}".replace(" ", "_")


def converts(*volumes: Expected, others: Mapping[tuple[str, str], int] | None = None) -> Expect:
    """Expect volumes (one plain one where none is named), and other files."""
    return Expect(volumes or (Expected(),), others or {})


def refuses(code: str, files: int = SHAPE[2], *fair: Expected) -> Expect:
    """Expect no volume, and all files quarantined."""
    return Expect((), {("quarantined", code): files}, fair=fair)


def skips(code: str, files: int = 1) -> Expect:
    """Expect no volume, and all files skipped."""
    return Expect((), {("skipped", code): files})


def skipped(code: str, files: int = 1) -> dict[tuple[str, str], int]:
    """Return what becomes of files beside a volume that are none of our business."""
    return {("skipped", code): files}


def shown(others: Mapping[tuple[str, str], int]) -> list[str]:
    """Return outcomes in words."""
    return [f"{outcome[0].upper()} {code} {n}" for (outcome, code), n in Counter(others).items()]
