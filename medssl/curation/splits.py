"""Training, validation and test sets that share no patient and no copy.

Patients are joined into groups by every edge between their volumes, also by those that are too
uncertain to drop anything. Groups are what is split. They are lined up by modality, then by
manufacturer, then by scanner, within each by a keyed hash, and each in turn goes to the split that
is furthest behind its share. Shares are then met within a group or two on every stretch of the
line: overall, in every modality, at every site, and on every scanner that has patients enough.
"""

import hashlib
import hmac
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator

from medssl.config.base import Config
from medssl.curation.decisions import SPLITS, Decisions, Exclusion
from medssl.curation.representatives import RELEASED

TORN = Exclusion(
    "ties_splits_together",
    "new, and tied to volumes that a released selection has in different splits",
    "splits",
    decision="review",
)


class SplitConfig(Config):
    """How the kept volumes are divided."""

    val: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the volumes to watch the training with."""
    test: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the volumes kept aside until the end."""
    stratify_by: tuple[str, ...] = ("modality", "manufacturer", "scanner_key")
    """Columns of the catalog whose values are spread over the splits, the most important first."""
    seed: int = 0
    """Another seed draws other splits; one seed always the same, in whatever order files come."""

    @model_validator(mode="after")
    def _room_for_training(self) -> Self:
        if self.val + self.test >= 1:
            raise ValueError(f"val + test is {self.val + self.test:g}, nothing is left to train on")
        return self

    def shares(self) -> dict[str, float]:
        """Return the share of every split."""
        return {"train": 1 - self.val - self.test, "val": self.val, "test": self.test}


def group_volumes(
    patient_of: Mapping[str, str], edges: Iterable[tuple[str, str]]
) -> dict[str, str]:
    """Return the group of every volume: joined are the volumes of a patient, and along edges.

    Args:
        patient_of: Volume key to patient key; an empty patient is nobody else's.
        edges: Pairs of volume keys.

    Returns:
        Volume key to group key, the first patient of the group in the order of the alphabet.
    """
    owner = {volume: patient or f"volume {volume}" for volume, patient in patient_of.items()}
    parent = {patient: patient for patient in owner.values()}

    def root(patient: str) -> str:
        while parent[patient] != patient:
            parent[patient] = parent[parent[patient]]
            patient = parent[patient]
        return patient

    for a, b in edges:
        first, second = sorted((root(owner[a]), root(owner[b])))
        parent[second] = first
    return {volume: root(patient) for volume, patient in owner.items()}


def assign_splits(
    group_of: Mapping[str, str],
    strata_of: Mapping[str, Sequence[str]],
    config: SplitConfig,
    settled: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the split of every volume in ``strata_of``: those that were kept.

    Each split's number of volumes differs from its share by at most 4/3 of the largest group, and
    within a stratum (equal values of the first so many columns) by at most twice that.

    Args:
        group_of: The group of every volume.
        strata_of: What every kept volume is stratified by, the most important first.
        config: Shares and seed.
        settled: Groups whose split is given; the others make up for what these lack.
    """
    size: Counter[str] = Counter()
    strata: dict[str, Sequence[str]] = {}
    for volume in strata_of:
        group, words = group_of[volume], strata_of[volume]
        size[group] += 1
        known = strata.setdefault(group, words)
        if known != words:
            strata[group] = tuple(map(_both, known, words))

    def place_in_line(group: str) -> tuple[bytes, ...]:
        return tuple(_keyed_hash(config.seed, word) for word in (*strata[group], group))

    shares = config.shares()
    wanted = [split for split in SPLITS if shares[split] > 0]
    behind = dict.fromkeys(SPLITS, 0.0)
    split_of = {group: split for group, split in (settled or {}).items() if group in size}
    free = sorted(size.keys() - split_of.keys(), key=place_in_line)
    for group in [*split_of, *free]:
        for split in SPLITS:
            behind[split] += shares[split] * size[group]
        if group not in split_of:
            split_of[group] = max(wanted, key=lambda split: round(behind[split], 9))
        behind[split_of[group]] -= size[group]
    return {volume: split_of[group_of[volume]] for volume in strata_of}


def draw_splits(config: SplitConfig, decisions: Decisions, released: Mapping[str, str]) -> None:
    """Divide the kept volumes; every edge counts, and so does every dropped volume's patient.

    A group takes its place in line by its voxels, not by a pseudonym: the same scans are divided
    alike under any key.

    Args:
        config: Shares, strata and seed.
        decisions: What was decided so far; ``group`` and ``split`` are filled in.
        released: The split of volumes that a released selection knows: they keep it, and what
            belongs to them joins them. A newcomer that ties volumes of different splits together
            is left out, for a person to look at.
    """
    rows = decisions.rows
    patient_of = rows.words("patient_key")
    edges = [edge.volumes for edge in decisions.edges]
    decisions.group = group_volumes(patient_of, edges)
    settled = _settled(decisions, released)
    kept = decisions.kept
    digests = rows.words("voxel_digest")
    content_of: dict[str, str] = {}
    for key in kept:
        group, digest = decisions.group[key], digests[key]
        content_of[group] = min(digest, content_of.get(group, digest))
    words = [rows.words(column) for column in config.stratify_by]
    split_of = assign_splits(
        {key: content_of[decisions.group[key]] for key in kept},
        {key: tuple(column[key] for column in words) for key in kept},
        config,
        {content_of[group]: split for group, split in settled.items() if group in content_of},
    )
    decisions.split = {key: released.get(key, split) for key, split in split_of.items()}
    assert_no_leak(decisions.split, patient_of, edges)


def _settled(decisions: Decisions, released: Mapping[str, str]) -> dict[str, str]:
    """Return the split of released groups; leave out what ties two splits together."""
    split_of: dict[str, str] = {}
    torn: set[str] = set()
    for key, split in released.items():
        group = decisions.group[key]
        if key not in decisions.excluded and split_of.setdefault(group, split) != split:
            split_of[group] = min(split, split_of[group])
            torn.add(group)
    for key in decisions.rows.keys if torn else ():
        shown_by = decisions.representative.get(key, key)
        if (
            decisions.group[key] in torn
            and key not in decisions.excluded
            and RELEASED not in map(decisions.standing.get, (key, shown_by))
        ):
            decisions.representative.pop(key, None)
            decisions.excluded[key] = TORN
    return split_of


def assert_no_leak(
    split_of: Mapping[str, str], patient_of: Mapping[str, str], edges: Collection[tuple[str, str]]
) -> None:
    """Check, independently of how the splits were made, that nothing crosses them.

    Raises:
        AssertionError: when it does, which is a bug of this package.
    """
    seen: dict[str, str] = {}
    for volume, split in split_of.items():
        patient = patient_of[volume]
        if patient and seen.setdefault(patient, split) != split:
            raise AssertionError(f"patient {patient} is in {seen[patient]} and in {split}")
    for a, b in edges:
        if a in split_of and b in split_of and split_of[a] != split_of[b]:
            raise AssertionError(f"{a} in {split_of[a]} resembles {b} in {split_of[b]}")


def _both(words: str, more: str) -> str:
    """Return the stratum of a group that is in two; in whatever order they came."""
    return "+".join(sorted({*words.split("+"), *more.split("+")}))


def _keyed_hash(seed: int, text: str) -> bytes:
    return hmac.digest(str(seed).encode(), text.encode(), hashlib.sha256)[:16]
