"""The ledger: one row per volume of the library, with all that is needed to account for it.

A row is a decision and its grounds. The columns after ``GROUNDS`` say who decided, with what, and
when; the root digest covers the grounds alone, so that the same library and configuration give the
same root on another day and another machine.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from medssl.curation.decisions import Decisions, equal_voxels
from medssl.curation.edges import KINDS, Edge
from medssl.curation.leaders import rank_key
from medssl.errors import InputError
from medssl.library.fingerprints import perceptual, slice_digest, voxel_digest

FILE = "ledger.parquet"

GROUNDS: Final[Mapping[str, pa.DataType]] = {
    "item": pa.string(),
    "level": pa.string(),
    "decision": pa.string(),
    "stage": pa.string(),
    "reason_code": pa.string(),
    "reason": pa.string(),
    "representative": pa.string(),
    "edge_type": pa.string(),
    "metric": pa.string(),
    "score": pa.float64(),
    "threshold": pa.float64(),
    "rank": pa.string(),
    "supersedes": pa.string(),
    "judgement": pa.string(),
    "patient_key": pa.string(),
    "modality": pa.string(),
    "voxel_digest": pa.string(),
    "group_key": pa.string(),
    "split": pa.string(),
    "rule_version": pa.string(),
    "signature_spec": pa.string(),
}
"""``representative`` is the kept volume that shows the same, ``rank`` what the two were ranked by,
``supersedes`` the released volume that a newcomer would have replaced, ``judgement`` what a person
said; ``split`` is that of the group, also for what is not kept."""

RUN: Final[Mapping[str, pa.DataType]] = {
    "config_digest": pa.string(),
    "catalog_digest": pa.string(),
    "code_version": pa.string(),
    "run_id": pa.string(),
    "time": pa.string(),
}
LEDGER_COLUMNS: Final = {**GROUNDS, **RUN}

SIGNATURE_SPEC: Final = f"{voxel_digest.SPEC} {slice_digest.SPEC} {perceptual.SPEC}"
NCC = "band-passed normalised cross-correlation"


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """The same in every row of a ledger."""

    config_digest: str
    catalog_digest: str
    code_version: str
    run_id: str
    time: str


def ledger_rows(
    decisions: Decisions, proofs: Mapping[str, Edge], run: RunFacts
) -> Iterator[dict[str, Any]]:
    """Yield the rows of ``ledger.parquet``, in the order of their keys."""
    split_of = {decisions.group[key]: split for key, split in decisions.split.items()}
    leading = set(decisions.representative.values())
    ranked = leading | decisions.representative.keys()
    words = {name: decisions.rows.words(name) for name in ("patient_key", "modality")}
    digests = decisions.rows.values("voxel_digest")
    for key, digest in zip(decisions.rows.keys, digests, strict=True):
        group = decisions.group.get(key, "")
        yield {
            "item": key,
            "level": "volume",
            "decision": decisions.fate(key, proofs.get(key)),
            **_grounds(decisions, key, proofs.get(key), leads=key in leading),
            "rank": json.dumps(rank_key(decisions.rows.row(key))) if key in ranked else "",
            "supersedes": decisions.supersedes.get(key, ""),
            "judgement": decisions.judged.get(key, ""),
            "patient_key": words["patient_key"][key],
            "modality": words["modality"][key],
            "voxel_digest": digest,
            "group_key": group,
            "split": "" if key in decisions.excluded else split_of.get(group, ""),
            "signature_spec": SIGNATURE_SPEC,
            **vars(run),
        }


def _grounds(decisions: Decisions, key: str, proof: Edge | None, *, leads: bool) -> dict[str, Any]:
    said = {"representative": "", "edge_type": "", "metric": "", "score": None, "threshold": None}
    if key in decisions.excluded:
        out = decisions.excluded[key]
        return said | {
            "stage": out.stage,
            "reason_code": out.reason_code,
            "reason": out.reason,
            "representative": out.representative,
            "metric": out.metric,
            "score": out.score,
            "rule_version": out.version,
        }
    if key not in decisions.representative:
        code = "stands_for_others" if leads else "no_copy_found"
        reason = "the best of several that show the same" if leads else "nothing shows the same"
        return {"stage": "duplicates", "reason_code": code, "reason": reason, **said} | {
            "rule_version": ""
        }
    if proof is None:
        raise AssertionError(f"{key} is dropped, and no edge says why")
    return {
        "stage": "duplicates",
        "reason_code": proof.kind,
        "reason": KINDS[proof.kind],
        "representative": decisions.representative[key],
        "edge_type": proof.kind,
        "metric": "voxel digest" if equal_voxels(proof) else NCC,
        "score": proof.score,
        "threshold": proof.threshold,
        "rule_version": "",
    }


class MerkleRoot:
    """The root of a binary tree of SHA-256 digests over rows, in the order they are added.

    A leaf is SHA-256(0x00, row), a node SHA-256(0x01, left, right), as in RFC 6962, section 2.1:
    that a row is part of a ledger can be proved with a handful of digests, without the ledger.
    """

    def __init__(self) -> None:
        self._complete: list[tuple[int, bytes]] = []  # (height, digest), the tallest first

    def add(self, row: Mapping[str, Any]) -> None:
        """Add the grounds of one row."""
        text = json.dumps([row[column] for column in GROUNDS], separators=(",", ":"))
        height, node = 0, hashlib.sha256(b"\0" + text.encode()).digest()
        while self._complete and self._complete[-1][0] == height:
            node = hashlib.sha256(b"\1" + self._complete.pop()[1] + node).digest()
            height += 1
        self._complete.append((height, node))

    def hexdigest(self) -> str:
        """Return the root of what was added so far."""
        if not self._complete:
            return hashlib.sha256(b"").hexdigest()
        *rest, (_, root) = self._complete
        for _, left in reversed(rest):
            root = hashlib.sha256(b"\1" + left + root).digest()
        return root.hex()


def rooted(
    rows: Iterable[dict[str, Any]], root: MerkleRoot, reasons: Counter[str]
) -> Iterator[dict[str, Any]]:
    """Pass ``rows`` on, add each to ``root``, and count why what is not kept is out."""
    for row in rows:
        root.add(row)
        if row["decision"] != "keep":
            reasons[row["reason_code"]] += 1
        yield row


def read_ledger(folder: Path, columns: Iterable[str] | None = None) -> pa.Table:
    """Return the ledger of the selection in ``folder``, or these columns of it.

    Raises:
        InputError: there is none, or it is damaged.
    """
    path = Path(folder) / FILE
    hint = "run the same `medssl curate` again, with --overwrite where it says so"
    if not path.is_file():
        raise InputError(f"{folder} holds no ledger", hint=hint)
    try:
        return pq.read_table(path, columns=list(columns) if columns is not None else None)
    except (pa.ArrowException, OSError):
        raise InputError(f"the ledger in {folder} is damaged", hint=hint) from None


def root_of(folder: Path) -> str:
    """Return the root digest of a ledger as it lies on disk, to compare with the manifest's."""
    root = MerkleRoot()
    for batch in read_ledger(folder, GROUNDS).to_batches(max_chunksize=16_384):
        for row in batch.to_pylist():
            root.add(row)
    return root.hexdigest()
