"""What a labelled set is, however it lay on the disk."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medssl.io.nifti import read_nifti
from medssl.io.volume import Volume

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class LabelledCase:
    """One image with what is known about it: a label map, or values of a table's columns.

    Its keys are running numbers, never file names: those may name a patient.
    """

    case_key: str
    """``case-017`` is the 17th entry of the set's list."""
    patient_key: str
    """Cases of one patient share it; a case is its own patient unless the set says otherwise."""
    image: Path
    label: Path | None = None
    """The label map; None where the set has none."""
    targets: Mapping[str, str] = field(default_factory=dict)
    """Of a table: column -> value as it is written there; "" where it is not known."""
    part: Part | None = None
    """Which part the set itself puts the case into; None where it leaves that to us."""
    about: Mapping[str, str] = field(default_factory=dict)
    """What subgroups are made of, where the set knows: ``sex``, ``age_years``, ``scanner``,
    ``site``, ``slice_thickness_mm``."""


@dataclass(frozen=True, kw_only=True)
class LabelledSet:
    """A checked data set: every file is there, fits its partner, and holds declared labels."""

    name: str
    modality: str
    """``CT``, ``MR`` or ``unknown``, of every image."""
    licence: str
    """What the data set says of itself; empty if nothing."""
    labels: tuple[str, ...]
    """Name of every class; position is the number in the label maps. Empty without label maps."""
    cases: tuple[LabelledCase, ...]
    folds: tuple[Mapping[Part, tuple[str, ...]], ...] = ()
    """Case keys of ``train`` and ``val`` in every fold that the set itself declares."""
    digest: str
    """Changes with any byte of any file, and with what is declared about them."""

    def case(self, case_key: str) -> LabelledCase:
        """Return the case of that key."""
        return next(case for case in self.cases if case.case_key == case_key)


def read_pair(case: LabelledCase, modality: str) -> tuple[Volume, NDArray[np.uint8]]:
    """Return a checked case's image and its label map, both on the image's own grid."""
    if case.label is None:
        raise ValueError(f"{case.case_key} has no label map")
    label = read_nifti(case.label)
    return read_nifti(case.image, modality=modality), label.array_IJK.astype(np.uint8)
