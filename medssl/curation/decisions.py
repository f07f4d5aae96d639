"""What was decided about every volume, step by step, before it becomes tables."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from medssl.curation.catalog_rows import CatalogRows
from medssl.curation.edges import DEMOTES, Edge
from medssl.curation.representatives import EQUAL_VOXELS
from medssl.curation.selection import KEPT_COLUMNS
from medssl.runs.manifest import Summary

SPLITS = ("train", "val", "test")

Decision = Literal["keep", "drop", "demote", "exclude", "review"]
"""Kept; a copy of a kept volume; another view of one; not wanted; left out until a person looks."""


class Exclusion(NamedTuple):
    """Why a volume is out for its own sake, not as a copy of another."""

    reason_code: str
    reason: str
    stage: str = "rules"
    version: str = ""
    """Of the rule."""
    decision: Decision = "exclude"
    representative: str = ""
    """A kept volume that comes closest, where one was looked for."""
    metric: str = ""
    score: float | None = None
    """How close it comes."""


@dataclass
class Decisions:
    """What becomes of every volume of the catalog."""

    rows: CatalogRows = field(compare=False)
    excluded: dict[str, Exclusion] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    representative: dict[str, str] = field(default_factory=dict)
    """Of every dropped or demoted volume: one that is kept."""
    standing: dict[str, int] = field(default_factory=dict)
    """Of volumes that a released selection knows (see ``representatives``)."""
    supersedes: dict[str, str] = field(default_factory=dict)
    """Newcomers that rank better than the released volume that stands for them."""
    judged: dict[str, str] = field(default_factory=dict)
    """What a person said of a volume, alone or beside another."""
    split: dict[str, str] = field(default_factory=dict)
    """Of kept volumes."""
    group: dict[str, str] = field(default_factory=dict)
    """Of all volumes."""

    @property
    def kept(self) -> list[str]:
        """Volume keys in the order of the alphabet."""
        out = self.excluded.keys() | self.representative.keys()
        return [key for key in self.rows.keys if key not in out]

    def proofs(self) -> dict[str, Edge]:
        """Return of every dropped or demoted volume the strongest edge that explains it."""
        best: dict[str, tuple[bool, float]] = {}
        proof: dict[str, Edge] = {}
        for edge in self.edges:
            for key in edge.volumes if edge.drops else ():
                representative = self.representative.get(key)
                if representative is None:
                    continue
                strength = representative in edge.volumes, edge.score
                if key not in best or strength > best[key]:
                    best[key], proof[key] = strength, edge
        return proof

    def fate(self, key: str, proof: Edge | None) -> Decision:
        """Return what becomes of one volume, given the edge that explains it."""
        if key in self.excluded:
            return self.excluded[key].decision
        if key not in self.representative:
            return "keep"
        return "demote" if proof is not None and proof.kind in DEMOTES else "drop"


def kept_rows(decisions: Decisions, proofs: Mapping[str, Edge]) -> Iterator[dict[str, Any]]:
    """Yield the rows of ``kept.parquet``, in the order of their keys."""
    stands_for: dict[str, list[str]] = defaultdict(list)
    for key, representative in sorted(decisions.representative.items()):
        stands_for[representative].append(key)
    made_here = ("split", "group_key", "alternates", "views")
    copied = [column for column in KEPT_COLUMNS if column not in made_here]
    for key in decisions.kept:
        row, alternates = decisions.rows.row(key), stands_for.get(key, [])
        yield {
            **{column: row[column] for column in copied},
            "split": decisions.split[key],
            "group_key": decisions.group[key],
            "alternates": alternates,
            "views": [k for k in alternates if decisions.fate(k, proofs.get(k)) == "demote"],
        }


def summarise(decisions: Decisions, reasons: Mapping[str, int]) -> Summary:
    """Return the numbers of the closing summary.

    Args:
        decisions: All of them.
        reasons: How many volumes are out for which reason.
    """
    kept = decisions.kept
    splits = Counter(decisions.split.values())
    groups = Counter(decisions.group[key] for key in kept)
    optional = {"supersede_suggestions": len(decisions.supersedes), "judged": len(decisions.judged)}
    return {
        "volumes": len(decisions.rows),
        "kept": len(kept),
        **{split: splits[split] for split in SPLITS},
        "groups": len(groups),
        "largest_group": max(groups.values(), default=0),
        **{name: count for name, count in optional.items() if count},
        **{f"out: {code}": count for code, count in sorted(reasons.items())},
    }


def equal_voxels(edge: Edge) -> bool:
    """Return whether two volumes are one by their digests, so that no threshold was asked."""
    return edge.kind in EQUAL_VOXELS
