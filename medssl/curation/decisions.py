"""What was decided about every volume, and the tables that tell it."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from medssl.curation.edges import KINDS, Edge
from medssl.curation.rules.base import CatalogRow
from medssl.curation.selection import KEPT_COLUMNS
from medssl.curation.splits import SPLITS
from medssl.runs.manifest import Summary


@dataclass
class Decisions:
    """What becomes of every volume; rows are those of the catalog, by volume key."""

    rows: dict[str, CatalogRow]
    excluded: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By a rule: reason code and reason."""
    edges: list[Edge] = field(default_factory=list)
    representative: dict[str, str] = field(default_factory=dict)
    """Of every dropped copy: a volume that is kept."""
    split: dict[str, str] = field(default_factory=dict)
    group: dict[str, str] = field(default_factory=dict)

    @property
    def kept(self) -> list[str]:
        """Volume keys in the order of the alphabet."""
        return [k for k in self.rows if k not in self.excluded and k not in self.representative]


def kept_rows(decisions: Decisions) -> list[dict[str, Any]]:
    """Return the rows of ``kept.parquet``."""
    alternates: dict[str, list[str]] = defaultdict(list)
    for key, representative in sorted(decisions.representative.items()):
        alternates[representative].append(key)
    copied = set(KEPT_COLUMNS) - {"split", "group_key", "alternates"}
    return [
        {
            **{column: decisions.rows[key][column] for column in sorted(copied)},
            "split": decisions.split[key],
            "group_key": decisions.group[key],
            "alternates": alternates[key],
        }
        for key in decisions.kept
    ]


def excluded_rows(decisions: Decisions) -> list[dict[str, Any]]:
    """Return the rows of ``excluded.parquet``: what a rule excluded, and every copy."""
    proofs: dict[str, list[Edge]] = defaultdict(list)
    for edge in decisions.edges:
        for volume in edge.volumes if edge.drops else ():
            proofs[volume].append(edge)
    rows = []
    for key, row in decisions.rows.items():
        what = {column: row[column] for column in ("volume_key", "patient_key", "modality")}
        if key in decisions.excluded:
            code, reason = decisions.excluded[key]
            why = {"representative_key": "", "score": None, "threshold": None}
            rows.append({**what, "reason_code": code, "reason": reason, **why})
        elif key in decisions.representative:
            rows.append({**what, **_why_dropped(decisions.representative[key], proofs[key])})
    return rows


def _why_dropped(representative: str, edges: Sequence[Edge]) -> dict[str, Any]:
    """Return the strongest of the edges that explain why a copy went."""
    direct = [edge for edge in edges if representative in edge.volumes]
    edge = max(direct or edges, key=lambda edge: edge.score)
    return {
        "reason_code": edge.kind,
        "reason": KINDS[edge.kind],
        "representative_key": representative,
        "score": edge.score,
        "threshold": edge.threshold,
    }


def summarise(decisions: Decisions) -> Summary:
    """Return the numbers of the closing summary."""
    splits = Counter(decisions.split.values())
    codes = Counter(row["reason_code"] for row in excluded_rows(decisions))
    groups = Counter(decisions.group[key] for key in decisions.kept)
    return {
        "volumes": len(decisions.rows),
        "kept": len(decisions.kept),
        **{split: splits[split] for split in SPLITS},
        "groups": len(groups),
        "largest_group": max(groups.values(), default=0),
        **{f"excluded: {code}": count for code, count in sorted(codes.items())},
    }
