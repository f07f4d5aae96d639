"""What a labelled set is, however it lay on the disk."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medssl.io.volume import Volume
from medssl.labelled.segmentation_object import read_masks
from medssl.labelled.volumes import read_image_file, read_label_file

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
    """A NIfTI file, a PNG or JPEG, a library's volume file, or the folder of a DICOM series."""
    files: tuple[Path, ...] = ()
    """The files of a DICOM series, where its folder may hold others too."""
    label: Path | None = None
    """The label map, or the DICOM SEG; None where the set has none."""
    segments: Mapping[int, int] = field(default_factory=dict)
    """Of a DICOM SEG: the number of its segment -> the number of its class."""
    classes: tuple[int, ...] = ()
    """Numbers of the classes that its label map shows, the background apart."""
    annotated: tuple[str, ...] | None = None
    """Names of the classes that somebody looked for in it; None: all of them."""
    targets: Mapping[str, str] = field(default_factory=dict)
    """Of a table: column -> value as it is written there; "" where it is not known. Every case of
    a set has the same columns."""
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
    regions: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """Name and class numbers of every region, where the set declares classes that overlap."""
    ignore_label: int | None = None
    """Number of voxels that nobody labelled, beyond those of ``labels``; None where all are."""
    cases: tuple[LabelledCase, ...]
    folds: tuple[Mapping[Part, tuple[str, ...]], ...] = ()
    """Case keys of ``train`` and ``val`` in every fold that the set itself declares."""
    warnings: tuple[str, ...] = ()
    """What was noticed and may be meant: empty label maps, the same image twice, unknown values."""
    digest: str
    """Changes with any byte of any file, and with what is declared about them."""

    def case(self, case_key: str) -> LabelledCase:
        """Return the case of that key."""
        return next(case for case in self.cases if case.case_key == case_key)


def read_image(case: LabelledCase, modality: str) -> Volume:
    """Return a case's image on its own grid, whatever its format.

    Raises:
        RejectedFileError: It cannot be read; of a checked set only when it changed since.
    """
    return read_image_file(case.image, modality, case.files)


def read_pair(case: LabelledCase, modality: str) -> tuple[Volume, NDArray[np.uint8]]:
    """Return a checked case's image and its label map, both on the image's own grid.

    Raises:
        RejectedFileError: One of them cannot be read.
    """
    image = read_image(case, modality)
    return image, read_label(case, image).array_IJK.astype(np.uint8)


def read_label(case: LabelledCase, image: Volume) -> Volume:
    """Return a case's label map as it is stored, its axes along those of its ``image``.

    Raises:
        RejectedFileError: It cannot be read, or a DICOM SEG does not fit the image.
    """
    if case.label is None:
        raise ValueError(f"{case.case_key} has no label map")
    if case.segments:
        return read_masks(case.label, image, case.segments)
    return read_label_file(case.label, image)
