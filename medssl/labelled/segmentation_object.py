"""DICOM SEG objects (PS3.3 A.51): what they segment, and their masks on an image's grid."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import UID, SegmentationStorage

from medssl.errors import RejectedFileError
from medssl.io.deidentify import Pseudonymizer
from medssl.io.dicom.frames import frames_of
from medssl.io.dicom.stream import has_preamble, open_dicom, read_dataset
from medssl.io.dicom.values import floats_of, integer_of, text_of
from medssl.io.geometry import LPS_TO_RAS, Float64Array
from medssl.io.limits import Limits
from medssl.io.narrow import VoxelArray
from medssl.io.reasons import reject
from medssl.io.untrusted import untrusted
from medssl.io.volume import Volume

_CLASSES = (SegmentationStorage, UID("1.2.840.10008.5.1.4.1.1.66.7"))
"""Segmentation Storage and Label Map Segmentation Storage."""
_HEADER = [
    "SOPClassUID",
    "SegmentationType",
    "MaximumFractionalValue",
    "SegmentSequence",
    "ReferencedSeriesSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]
_PIXELS = [
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData"),
]
_TOLERANCE_VOXELS = 0.1
"""As far as the slices of a stack may stray from the line through them."""
_SLICE_TOLERANCE = 0.02


@dataclass(frozen=True, kw_only=True)
class SegmentationObject:
    """What the header of one file says."""

    path: Path
    series: tuple[str, ...]
    """Pseudonyms of the series that it refers to."""
    instances: frozenset[str]
    """Pseudonyms of the images that its frames were drawn on, as far as it names them."""
    segments: Mapping[int, str]
    """Number of a segment -> its label."""


def is_segmentation(path: Path) -> bool:
    """Return whether a file is a DICOM SEG, by its meta information."""
    try:
        with untrusted("damaged_header"):
            if not has_preamble(path):
                return False
            with open_dicom(path, Limits()) as stream:
                dataset = read_dataset(stream, ["SOPClassUID"], pixels=False)
            return text_of(dataset, "SOPClassUID") in _CLASSES
    except RejectedFileError:
        return False


def read_segmentation_object(path: Path, pseudonymizer: Pseudonymizer) -> SegmentationObject:
    """Return what the header of a DICOM SEG says, with references as pseudonyms.

    Raises:
        RejectedFileError: Its header is damaged, or it describes no segment.
    """
    with untrusted("damaged_header"):
        with open_dicom(path, Limits()) as stream:
            dataset = read_dataset(stream, _HEADER, pixels=False)
        numbered = {
            integer_of([item], "SegmentNumber"): text_of(item, "SegmentLabel")
            for item in dataset.get("SegmentSequence") or []
        }
        segments = {number: label or f"segment {number}" for number, label in numbered.items()}
        series = [
            pseudonymizer.series_key(text_of(item, "SeriesInstanceUID"))
            for item in dataset.get("ReferencedSeriesSequence") or []
        ]
        sources = [
            pseudonymizer.instance_key(text_of(source, "ReferencedSOPInstanceUID"))
            for _, layers in frames_of(dataset)
            for layer in layers
            for source in layer.get("SourceImageSequence") or []
        ]
    if not segments:
        raise RejectedFileError("no_segments", "it describes no segment")
    return SegmentationObject(
        path=path, series=tuple(series), instances=frozenset(sources), segments=segments
    )


def read_masks(path: Path, image: Volume, segments: Mapping[int, int]) -> Volume:
    """Return the segments of a DICOM SEG as a label map on the grid of ``image``.

    Every pixel of a frame goes to the voxel at its place in the patient, by the plane of the frame
    (PS3.3 C.7.6.2.1.1): frames may come in any order, from either end, cover a part of the
    image, and leave empty slices out. Nothing is interpolated.

    Args:
        path: the SEG.
        image: what was segmented, as it was scanned.
        segments: number of a segment -> number of its class; others are left out.

    Raises:
        RejectedFileError: It is damaged; its masks lie between the voxels of the image or outside
            of it, overlap, or are fractions; or the image was resampled.
    """
    if image.regularized:
        raise RejectedFileError(
            "resampled_image",
            f"its slices formed no regular grid and were resampled ({', '.join(image.regularized)})"
            ", so masks drawn on them no longer fit",
        )
    label_IJK = np.zeros(image.shape, np.uint8)
    overlapping = 0
    with untrusted("undecodable_pixels"):
        with open_dicom(path, Limits()) as stream:
            dataset = read_dataset(stream, [*_HEADER, *_PIXELS], pixels=True)
        _refuse_too_large(dataset, Limits())
        for layers, mask in _masks(dataset, segments):
            index = _voxels_of(mask.pixels_RC, layers, image)
            held = label_IJK[index]
            overlapping += int(np.count_nonzero((held != 0) & (held != mask.number)))
            label_IJK[index] = mask.number
    if overlapping:
        raise RejectedFileError(
            "overlapping_segments",
            f"{overlapping} voxels belong to two classes at once, and a label map holds one",
        )
    return Volume(
        array_IJK=label_IJK, affine_ras=image.affine_ras, modality="unknown", intensity="unknown"
    )


@dataclass(frozen=True, eq=False)
class _Mask:
    pixels_RC: NDArray[np.bool_]
    number: int


def _masks(
    dataset: Dataset, segments: Mapping[int, int]
) -> Iterator[tuple[Sequence[Dataset], _Mask]]:
    """Yield what is not empty: where a frame lies, and its pixels of one class."""
    kind = text_of(dataset, "SegmentationType")
    full = integer_of([dataset], "MaximumFractionalValue", 1) if kind == "FRACTIONAL" else 1
    for (_, layers), frame in zip(frames_of(dataset), iter_pixels(dataset), strict=True):
        if kind == "LABELMAP":
            found = [(frame == segment, number) for segment, number in segments.items()]
        else:
            _refuse_fractions(frame, full)
            segment = integer_of(layers, "ReferencedSegmentNumber")
            found = [(frame > 0, segments[segment])] if segment in segments else []
        yield from ((layers, _Mask(mask, number)) for mask, number in found if mask.any())


def _voxels_of(
    mask_RC: NDArray[np.bool_], layers: Sequence[Dataset], image: Volume
) -> tuple[NDArray[np.int64], ...]:
    """Return the index of every pixel of a mask, in the image."""
    to_index = np.linalg.inv(image.affine_ras) @ LPS_TO_RAS @ _plane_lps(layers)
    rows, columns = np.nonzero(mask_RC)
    places = to_index[:3] @ np.stack([rows, columns, np.ones_like(rows)])
    index = np.rint(places).astype(np.int64)
    beside = np.abs(places - index)
    steps = np.abs(to_index[:3, :2])
    unlike_grid = np.abs(steps - np.rint(steps)).max() > _TOLERANCE_VOXELS / max(mask_RC.shape)
    if unlike_grid or (np.rint(steps).sum(axis=0) != 1).any() or _stretched(layers, image, steps):
        raise RejectedFileError(
            "other_grid",
            "its masks have pixels or slices of another size or direction than the image; put them "
            "on the image's grid first",
        )
    if beside.max() > _TOLERANCE_VOXELS:
        beside_mm = (beside * np.array(image.spacing_mm)[:, None]).max()
        raise RejectedFileError(
            "other_grid", f"its masks lie {beside_mm:.2g} mm beside the voxels of the image"
        )
    away = np.maximum(-index, index - (np.array(image.shape)[:, None] - 1))
    if (away > 0).any():
        away_mm = (away * np.array(image.spacing_mm)[:, None]).max()
        raise RejectedFileError(
            "outside_image", f"its masks reach up to {away_mm:.1f} mm out of the image"
        )
    return tuple(index)


def _plane_lps(layers: Sequence[Dataset]) -> Float64Array:
    """Return the (4, 3) matrix from (row, column, 1) to LPS millimetres."""
    origin = floats_of(layers, "ImagePositionPatient", 3)
    cosines = floats_of(layers, "ImageOrientationPatient", 6)
    spacing_mm = floats_of(layers, "PixelSpacing", 2)
    if origin is None or cosines is None or spacing_mm is None or min(spacing_mm) <= 0:
        raise RejectedFileError("no_geometry", "a mask does not say where it lies in the patient")
    plane = np.zeros((4, 3))
    plane[:3, 0] = np.multiply(cosines[3:], spacing_mm[0])
    plane[:3, 1] = np.multiply(cosines[:3], spacing_mm[1])
    plane[:, 2] = (*origin, 1)
    return plane


def _stretched(layers: Sequence[Dataset], image: Volume, steps: Float64Array) -> bool:
    """Return whether the masks' slices lie at other distances than the image's, if they say so."""
    stated = floats_of(layers, "SpacingBetweenSlices", 1)
    across_mm = np.array(image.spacing_mm)[np.rint(steps).sum(axis=1) == 0]
    if stated is None or len(across_mm) != 1:
        return False
    return bool(abs(abs(stated[0]) / across_mm[0] - 1) > _SLICE_TOLERANCE)


def _refuse_fractions(frame: VoxelArray, full: int) -> None:
    if not np.isin(frame, (0, full)).all():
        raise RejectedFileError(
            "fractional_segments", "its masks are fractions; decide on a threshold, save as BINARY"
        )


def _refuse_too_large(dataset: Dataset, limits: Limits) -> None:
    sizes = [integer_of([dataset], word, 1) for word in ("Rows", "Columns", "NumberOfFrames")]
    if np.prod(sizes, dtype=float) > limits.volume_bytes:
        raise reject(
            "too_large",
            announced_mib=float(np.prod(sizes, dtype=float)) / 2**20,
            limit_mib=limits.volume_bytes / 2**20,
        )
