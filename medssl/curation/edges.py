"""What two volumes are to each other, and whether one of them is dropped for it.

Losing a scan by mistake is worse than keeping a copy. So between volumes of one patient, where
follow-ups, phases and contrasts look alike, more is asked than between strangers, and what stays
doubtful only keeps the two in the same split.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from medssl.config.base import Config
from medssl.curation.rules.base import CatalogRow, shape_of, spacing_mm_of
from medssl.curation.verification import Agreement

Kind = Literal[
    "identical",
    "re_export",
    "resampled",
    "re_reconstruction",
    "same_patient",
    "ambiguous",
    "unreadable",
]

KINDS: Final[Mapping[Kind, str]] = {
    "identical": "the same file",
    "re_export": "the same voxels in another file",
    "resampled": "the same scan on another voxel grid",
    "re_reconstruction": "the same scan with other intensities",
    "same_patient": "alike, but of one patient: another day, phase or contrast",
    "ambiguous": "alike, but not alike enough to be a copy",
    "unreadable": "of close signatures, but a file could not be read to compare them",
}


class NearDuplicateConfig(Config):
    """When two volumes count as copies; the defaults were measured on real volumes."""

    max_bits: Annotated[int, Field(ge=0, le=120)] = 48
    """Signatures that differ in more of their 256 bits are not compared further."""
    copy_ncc: Annotated[float, Field(gt=0, le=1)] = 0.97
    """Correlation of fine structure from which volumes of different patients are one scan."""
    same_patient_ncc: Annotated[float, Field(gt=0, le=1)] = 0.99
    """The same within one patient, whose follow-ups reach 0.98."""
    link_ncc: Annotated[float, Field(gt=0, le=1)] = 0.8
    """From here on volumes stay in the same split, though none is dropped."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.link_ncc <= self.copy_ncc <= self.same_patient_ncc:
            raise ValueError("wanted link_ncc <= copy_ncc <= same_patient_ncc")
        return self


@dataclass(frozen=True, kw_only=True)
class Edge:
    """Two volumes that are alike; ``volume_a`` comes before ``volume_b`` in the alphabet."""

    volume_a: str
    volume_b: str
    kind: Kind
    drops: bool
    """Whether the one of lower rank is dropped; otherwise they only share a split."""
    bits_full: int = 0
    bits_bbox: int = 0
    ncc_physical: float = 1.0
    ncc_index: float = 1.0
    score: float = 1.0
    threshold: float = 1.0
    """What ``score`` had to reach for a copy."""

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


def judge(
    a: CatalogRow, b: CatalogRow, agreement: Agreement, config: NearDuplicateConfig
) -> tuple[Kind, bool, float] | None:
    """Return the kind of edge, whether it drops a volume, and the threshold; None for strangers.

    Within one patient nothing is dropped from another study, nor on the same voxel grid: there
    a second phase or contrast looks like a second reconstruction, and only equal voxels (see
    ``identical_volumes``) prove a copy.
    """
    one_patient = bool(a["patient_key"]) and a["patient_key"] == b["patient_key"]
    threshold = config.same_patient_ncc if one_patient else config.copy_ncc
    if agreement.score < config.link_ncc:
        return None
    if one_patient and (_other_study(a, b) or _same_grid(a, b)):
        return "same_patient", False, threshold
    if agreement.score < threshold:
        return ("same_patient" if one_patient else "ambiguous"), False, threshold
    return ("re_reconstruction" if _same_grid(a, b) else "resampled"), True, threshold


def _other_study(a: CatalogRow, b: CatalogRow) -> bool:
    """Only DICOM headers know of studies."""
    known = all(row["source_format"] == "dicom" and row["study_key"] for row in (a, b))
    return known and a["study_key"] != b["study_key"]


def _same_grid(a: CatalogRow, b: CatalogRow) -> bool:
    pairs = zip(spacing_mm_of(a), spacing_mm_of(b), strict=True)
    return shape_of(a) == shape_of(b) and all(abs(x - y) <= 0.01 * max(x, y) for x, y in pairs)
