"""Training, validation and test sets that share no patient and no copy.

Patients are joined into groups by every edge between their volumes, also by those that are too
uncertain to drop anything. Groups are what is split. They are lined up by modality, and within a
modality by a keyed hash, and each in turn goes to the split that is furthest behind its share:
shares are met within one group even for a handful of patients, overall and in every modality.
"""

import hashlib
import hmac
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Self

from pydantic import Field, model_validator

from medssl.config.base import Config

SPLITS = ("train", "val", "test")


class SplitConfig(Config):
    """How the kept volumes are divided."""

    val: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the volumes to watch the training with."""
    test: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the volumes kept aside until the end."""
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
    group_of: Mapping[str, str], modality_of: Mapping[str, str], config: SplitConfig
) -> dict[str, str]:
    """Return the split of every volume in ``modality_of``: those that were kept.

    Each split's number of volumes differs from its share by at most 4/3 of the largest group.
    """
    size: Counter[str] = Counter()
    modalities: dict[str, set[str]] = defaultdict(set)
    for volume, modality in modality_of.items():
        size[group_of[volume]] += 1
        modalities[group_of[volume]].add(modality)

    def place_in_line(group: str) -> tuple[str, str]:
        stratum = "+".join(sorted(modalities[group]))
        return _keyed_hash(config.seed, stratum), _keyed_hash(config.seed, group)

    shares = config.shares()
    behind = dict.fromkeys(SPLITS, 0.0)
    split_of: dict[str, str] = {}
    for group in sorted(size, key=place_in_line):
        for split in SPLITS:
            behind[split] += shares[split] * size[group]
        wanted = [split for split in SPLITS if shares[split] > 0]
        chosen = max(wanted, key=lambda split: round(behind[split], 9))
        behind[chosen] -= size[group]
        split_of[group] = chosen
    return {volume: split_of[group_of[volume]] for volume in modality_of}


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


def _keyed_hash(seed: int, text: str) -> str:
    return hmac.digest(str(seed).encode(), text.encode(), hashlib.sha256).hex()
