"""Ways to alter a plain series, put together to make the rows of the table."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.uid import generate_uid
from pydicom.valuerep import format_number_as_ds

from pipelines.benchmarks.cases.case import AXIAL, SHAPE
from pipelines.benchmarks.cases.phantoms import (
    Array,
    dicom_slices,
    exact_field_hu,
    phantom,
    save,
)

Slices = list[Dataset]
Alter = Callable[[Slices], Slices]
Build = Callable[[Path], object]

LATER_HU = 100.0
"""By how much the second image of each place differs from the first."""


def series(
    alter: Alter | None = None,
    *,
    affine: Array = AXIAL,
    shape: tuple[int, int, int] = SHAPE,
    modality: str = "CT",
) -> Build:
    """Return a builder of a plain series, altered."""

    def build(folder: Path) -> object:
        slices = dicom_slices(phantom(affine, shape), affine, modality=modality)
        return save(alter(slices) if alter else slices, folder)

    return build


def each(edit: Callable[[Dataset, int], object]) -> Alter:
    """Alter every slice by itself."""

    def alter(slices: Slices) -> Slices:
        for index, ds in enumerate(slices):
            edit(ds, index)
        return slices

    return alter


def only(number: int, edit: Callable[[Dataset], object]) -> Alter:
    """Alter one slice."""
    return each(lambda ds, index: edit(ds) if index == number else None)


def values(**of: Any) -> Alter:
    """Give attributes values; a function is called with the slice's index."""

    def edit(ds: Dataset, index: int) -> None:
        for keyword, value in of.items():
            setattr(ds, keyword, value(index) if callable(value) else value)

    return each(edit)


def without(*keywords: str) -> Alter:
    """Leave attributes out of every slice."""

    def edit(ds: Dataset, _: int) -> None:
        for keyword in keywords:
            delattr(ds, keyword)

    return each(edit)


def moved(axis: int, by_mm: Callable[[int], float]) -> Alter:
    """Move each slice along x, y or z (LPS); its voxels keep the values of where it stood."""

    def edit(ds: Dataset, index: int) -> None:
        position = [float(v) for v in ds.ImagePositionPatient]
        position[axis] += by_mm(index)
        ds.ImagePositionPatient = [format_number_as_ds(v) for v in position]

    return each(edit)


def both(*alters: Alter) -> Alter:
    """Alter one after the other."""

    def alter(slices: Slices) -> Slices:
        for one in alters:
            slices = one(slices)
        return slices

    return alter


def again(slices: Slices, **of: Any) -> Slices:
    """Return new slices at the same places of the same series, with other pixels (F + 100)."""
    modality = slices[0].Modality
    twins = dicom_slices(phantom(AXIAL, SHAPE) + int(LATER_HU), AXIAL, modality=modality)
    for index, (twin, ds) in enumerate(zip(twins, slices, strict=True)):
        same_series(twin, ds)
        twin.InstanceNumber = len(slices) + index + 1
    return values(**of)(twins)


def same_series(ds: Dataset, other: Dataset) -> Dataset:
    """Give ``ds`` the series of ``other``."""
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        setattr(ds, keyword, other[keyword].value)
    return ds


def renumbered(slices: Slices) -> Slices:
    """Return the slices with a series number of their own each."""
    return values(SeriesInstanceUID=lambda _: generate_uid())(slices)


def later(points_ras: Array) -> Array:
    """Return F of the second image of each place."""
    return exact_field_hu(points_ras) + LATER_HU


def at_places(places_mm: list[float]) -> Build:
    """Return a builder of an axial series with slices at these places along z, F at each."""

    def build(folder: Path) -> object:
        affine = AXIAL.copy()
        affine[2, 2] = 1.0
        slices: Slices = []
        for number, place in enumerate(places_mm):
            here = affine.copy()
            here[2, 3] += place
            [ds] = dicom_slices(phantom(here, (*SHAPE[:2], 1)), here)
            ds.InstanceNumber = number + 1
            slices.append(same_series(ds, slices[0] if slices else ds))
        return save(slices, folder)

    return build


def in_pixels(slices: Slices, change: Callable[[Array, int], Array]) -> Slices:
    """Replace the stored pixels, (rows, columns), of each slice."""
    for index, ds in enumerate(slices):
        stored = np.frombuffer(ds.PixelData, np.int16).reshape(ds.Rows, ds.Columns)
        new = np.ascontiguousarray(change(stored, index))
        ds.PixelData, ds.PixelRepresentation = new.tobytes(), int(new.dtype.kind == "i")
        ds.BitsAllocated = ds.BitsStored = 8 * new.dtype.itemsize
        ds.HighBit = ds.BitsStored - 1
    return slices


def stored_as(change: Callable[[Array, int], Array], **of: Any) -> Alter:
    """Replace pixels and, with them, attributes."""
    return both(lambda slices: in_pixels(slices, change), values(**of))
