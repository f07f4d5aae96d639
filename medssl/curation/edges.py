"""What two volumes are to each other, and whether one of them is dropped for it.

Losing a scan by mistake is worse than keeping a copy. So between volumes of one patient, where
follow-ups, phases and contrasts look alike, more is asked than between strangers, and what stays
doubtful only keeps the two in the same split.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from medssl.config.base import Config
from medssl.curation.acquisitions import Relation
from medssl.curation.rules.base import CatalogRow, shape_of, spacing_mm_of
from medssl.curation.verification import UNKNOWN, Agreement

Kind = Literal[
    "identical",
    "re_export",
    "resampled",
    "re_reconstruction",
    "subset",
    "overlap",
    "same_patient",
    "ambiguous",
    "unreadable",
]

KINDS: Final[Mapping[Kind, str]] = {
    "identical": "the same file",
    "re_export": "the same voxels in another file",
    "resampled": "the same scan on another voxel grid",
    "re_reconstruction": "the same scan with other intensities or slices of another thickness",
    "subset": "a part of the other",
    "overlap": "the same scan in part; both have more that the other lacks",
    "same_patient": "alike, but of one patient: another day, phase or contrast",
    "ambiguous": "alike, but not alike enough to be a copy",
    "unreadable": "of close signatures, but a file could not be read to compare them",
}

DEMOTES: Final[frozenset[Kind]] = frozenset(("re_reconstruction",))
"""Of these the lower rank is no loss-free copy, but another view of the same scan: it is an
alternate of the one that is kept, to be used in its place or beside it."""


class NearDuplicateConfig(Config):
    """When two volumes count as copies; the defaults were measured on real volumes."""

    max_bits: Annotated[int, Field(ge=0, le=120)] = 48
    """Signatures that differ in more of their 256 bits are not compared further."""
    max_bits_window: Annotated[int, Field(ge=0, le=120)] = 72
    """The same where one of the two is in Hounsfield units and the other is not: a window that
    clipped it changes its signature."""
    shared_slices: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Share of a volume's slices, less the empty ones, from which another one that has them too is
    compared with it."""
    copy_ncc: Annotated[float, Field(gt=0, le=1)] = 0.998
    """Correlation of fine structure from which volumes of different patients are one scan."""
    copy_motion_voxels: Annotated[float, Field(ge=0)] = 0.13
    """Up to this much motion between them, in voxels of a grid of at most 96 a side; noise seems to
    move a little, and a breath held anew moves by more, or loses correlation."""
    same_patient_ncc: Annotated[float, Field(gt=0, le=1)] = 0.9985
    """The same within one patient, where no header says that it is one acquisition."""
    same_patient_motion_voxels: Annotated[float, Field(ge=0)] = 0.07
    """Likewise."""
    same_acquisition_ncc: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Correlation that is enough where headers say that it is one acquisition."""
    link_ncc: Annotated[float, Field(gt=0, le=1)] = 0.8
    """From here on volumes stay in the same split, though none is dropped."""
    whole_share: Annotated[float, Field(gt=0.5, le=1)] = 0.9
    """Share of a field of view from which it counts as all of it; less is a part."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.link_ncc <= self.copy_ncc <= self.same_patient_ncc:
            raise ValueError("wanted link_ncc <= copy_ncc <= same_patient_ncc")
        if self.same_acquisition_ncc < self.link_ncc:
            raise ValueError("wanted link_ncc <= same_acquisition_ncc")
        return self


_MEASURED: Final = (
    "ncc_physical",
    "ncc_index",
    "ncc_slices",
    "motion_voxels",
    "score",
    "threshold",
)


@dataclass(frozen=True, kw_only=True)
class Edge:
    """Two volumes that are alike; ``volume_a`` comes before ``volume_b`` in the alphabet."""

    volume_a: str
    volume_b: str
    kind: Kind
    drops: bool
    """Whether the one of lower rank is dropped; otherwise they only share a split."""
    part: str = ""
    """Which of the two is a part of the other. It is dropped if the whole is of better rank; the
    whole is never dropped for its part."""
    bits_full: int = 0
    bits_bbox: int = 0
    shared_slices: int = 0
    """How many slices, one after the other, the two have in common."""
    ncc_physical: float = 1.0
    ncc_index: float = 1.0
    ncc_slices: float = UNKNOWN
    motion_voxels: float = 0.0
    score: float = 1.0
    threshold: float = 1.0
    """What ``score`` had to reach for a copy."""

    def __post_init__(self) -> None:
        for name in _MEASURED:
            if np.isnan(getattr(self, name)):  # one nan for all: edges can be equal
                object.__setattr__(self, name, UNKNOWN)

    @property
    def volumes(self) -> tuple[str, str]:
        """Return the two volume keys."""
        return self.volume_a, self.volume_b


def identical_volumes(ranked: Sequence[CatalogRow]) -> list[Edge]:
    """Return an edge from the first volume of every set of equal voxels to each of the others.

    Args:
        ranked: Rows of the catalog, the best first.
    """
    same: dict[str, list[CatalogRow]] = defaultdict(list)
    for row in ranked:
        same[row["voxel_digest"]].append(row)
    edges = []
    for best, *others in same.values():
        for other in others:
            a, b = sorted((best["volume_key"], other["volume_key"]))
            same_file = best["file_digest"] == other["file_digest"]
            kind: Kind = "identical" if same_file else "re_export"
            edges.append(Edge(volume_a=a, volume_b=b, kind=kind, drops=True))
    return sorted(edges, key=lambda edge: edge.volumes)


def comparable(a: CatalogRow, b: CatalogRow) -> bool:
    """Return whether the modalities allow that two volumes are one scan."""
    modalities = {str(row["modality"]).upper() for row in (a, b)}
    return len(modalities) == 1 or "UNKNOWN" in modalities


class Verdict(NamedTuple):
    """What a comparison comes to."""

    kind: Kind
    drops: bool
    threshold: float
    part: str = ""


def judge(
    a: CatalogRow,
    b: CatalogRow,
    said: Relation,
    agreement: Agreement,
    config: NearDuplicateConfig,
) -> Verdict | None:
    """Return the kind of edge and whether it drops a volume; None for strangers.

    Nothing is dropped for a volume of another study or acquisition: there only equal voxels (see
    ``identical_volumes``) prove a copy.

    Args:
        a: The one row of the catalog.
        b: The other.
        said: What their headers say of them.
        agreement: What their voxels say, ``a`` being the first.
        config: The thresholds.
    """
    threshold, most_motion = {
        "strangers": (config.copy_ncc, config.copy_motion_voxels),
        "same_acquisition": (config.same_acquisition_ncc, float("inf")),
    }.get(said, (config.same_patient_ncc, config.same_patient_motion_voxels))
    if not agreement.score >= config.link_ncc:
        return None
    if said in ("other_study", "other_acquisition"):
        return Verdict("same_patient", False, threshold)
    moved = agreement.motion_voxels > most_motion or (
        np.isnan(agreement.motion_voxels) and said != "same_acquisition"
    )
    if agreement.score < threshold or moved:
        return Verdict("ambiguous" if said == "strangers" else "same_patient", False, threshold)
    whole_a, whole_b = (
        share >= config.whole_share for share in (agreement.share_a, agreement.share_b)
    )
    if not (whole_a or whole_b):
        return Verdict("overlap", False, threshold)
    if not (whole_a and whole_b):
        part, whole = (a, b) if whole_a else (b, a)
        # A zoom into a part shows it more finely than the whole does: another view, not a copy.
        finer = _voxel_mm3(part) < _FINER * _voxel_mm3(whole)
        kind: Kind = "re_reconstruction" if finer else "subset"
        return Verdict(kind, True, threshold, str(part["volume_key"]))
    same_slices = said == "same_acquisition" or _axes_of_one_grid(a, b) >= _PLANE_AXES
    return Verdict("re_reconstruction" if same_slices else "resampled", True, threshold)


_FINER: Final = 0.9
_PLANE_AXES: Final = 2
"""Two equal axes are a plane: slices of another thickness, or of none other."""


def _axes_of_one_grid(a: CatalogRow, b: CatalogRow) -> int:
    """Return along how many axes the two have as many voxels, as far apart."""
    spacings = zip(spacing_mm_of(a), spacing_mm_of(b), strict=True)
    counts = zip(shape_of(a), shape_of(b), strict=True)
    return sum(
        n == m and abs(x - y) <= 0.01 * max(x, y)
        for (x, y), (n, m) in zip(spacings, counts, strict=True)
    )


def _voxel_mm3(row: CatalogRow) -> float:
    i_mm, j_mm, k_mm = spacing_mm_of(row)
    return i_mm * j_mm * k_mm
