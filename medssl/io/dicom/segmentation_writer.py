"""Masks as a DICOM SEG (PS3.3 A.51) beside the series that they were drawn on."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from highdicom import AlgorithmIdentificationSequence, PixelMeasuresSequence
from highdicom.seg import Segmentation, SegmentationTypeValues, SegmentDescription
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from medssl.errors import RejectedFileError
from medssl.io.dicom.derived import MAKER, made_by, series_of, source_headers
from medssl.io.dicom.slices import SliceHeader
from medssl.io.dicom.structure_codes import CodeConfig, structure_code
from medssl.io.untrusted import untrusted
from medssl.io.volume import Volume

_LONGEST_LABEL = 64


def segmentation_object(
    volume: Volume,
    slices: Sequence[SliceHeader],
    masks: NDArray[np.bool_] | NDArray[np.uint8],
    names: Sequence[str],
    *,
    model: str,
    codes_of: Mapping[str, CodeConfig] | None = None,
) -> Dataset:
    """Return the masks of a volume as a DICOM SEG: one binary segment per structure.

    Every frame refers to the slice it lies on and keeps its plane, so nothing is interpolated and
    the order of the slices does not matter. Empty frames are left out.

    Args:
        volume: The scan, on the grid of its slices.
        slices: What it was read from, in the order of the third axis.
        masks: ``(names, I, J, K)``, which may overlap; or numbers from 1 on, ``(I, J, K)``.
        names: Of the structures.
        model: Title of the model that drew them.
        codes_of: Codes that the user wants for some names.

    Raises:
        RejectedFileError: The volume does not lie on the grid of its slices, or their headers
            lack what a segmentation refers to.
    """
    if volume.regularized:
        why = ", ".join(volume.regularized)
        raise RejectedFileError(
            "resampled_image",
            f"its slices were resampled to a regular grid ({why}), so its masks lie on no slice of "
            "the series; NIfTI has them",
        )
    headers = source_headers(slices)
    if len(slices) != volume.shape[2]:
        raise RejectedFileError("resampled_image", "the volume has other slices than the series")
    if any(not header.get("FrameOfReferenceUID") for header in headers):
        raise RejectedFileError(
            "no_frame_of_reference", "its header names no frame of reference to draw masks in"
        )
    order = _frames(slices, headers)
    frames = (
        _numbers(masks, order, headers)
        if masks.ndim == volume.array_IJK.ndim
        else np.stack([_numbers(mask, order, headers) for mask in masks], axis=-1)
    )
    column_mm, row_mm, slice_mm = volume.spacing_mm
    with untrusted("not_for_dicom"):
        for header in headers:  # whose thickness highdicom prefers to the one it is given
            if not header.get("SliceThickness"):
                header.SliceThickness = round(slice_mm, 6)
        described = [
            _described(number, name, model, (codes_of or {}).get(name))
            for number, name in enumerate(names, start=1)
        ]
        return Segmentation(
            source_images=headers,
            pixel_array=frames,
            segmentation_type=SegmentationTypeValues.BINARY,
            segment_descriptions=described,
            pixel_measures=PixelMeasuresSequence(
                pixel_spacing=(row_mm, column_mm),
                slice_thickness=slice_mm,
                spacing_between_slices=slice_mm,
            ),
            manufacturer_model_name=MAKER,
            software_versions=made_by(),
            device_serial_number="0",
            content_label="SEGMENTATION",
            content_description=model[:_LONGEST_LABEL],
            series_description=f"Segmentation: {model}"[:_LONGEST_LABEL],
            **series_of(headers),
        )


def _frames(slices: Sequence[SliceHeader], headers: Sequence[Dataset]) -> list[int]:
    """Return which frame of the source each index of the third axis is."""
    if len(headers) == len(slices):
        return list(range(len(slices)))
    indices = [header.frame_index for header in slices]
    if len(headers) > 1 or not hasattr(headers[0], "NumberOfFrames") or None in indices:
        raise RejectedFileError(
            "shared_files", "several of its slices share a file that is no multi-frame image"
        )
    return [int(index) for index in indices if index is not None]


def _numbers(
    mask_IJK: NDArray[Any], order: Sequence[int], headers: Sequence[Dataset]
) -> NDArray[np.uint8]:
    """Return frames ``(frame, row, column)`` of an array whose axes are column, row, slice."""
    count = int(headers[0].get("NumberOfFrames", 1)) if len(headers) == 1 else len(headers)
    count = max(count, len(order))
    frames = np.zeros((count, mask_IJK.shape[1], mask_IJK.shape[0]), np.uint8)
    frames[list(order)] = mask_IJK.transpose(2, 1, 0)
    return frames


def _described(number: int, name: str, model: str, given: CodeConfig | None) -> SegmentDescription:
    code = structure_code(name, given)
    described = SegmentDescription(
        segment_number=number,
        segment_label=name[:_LONGEST_LABEL],
        segmented_property_category=code.category,
        segmented_property_type=code.kind,
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=model[:_LONGEST_LABEL],
            family=codes.DCM.ArtificialIntelligence,
            version=made_by(),
            source=MAKER,
        ),
        tracking_uid=generate_uid(prefix=None),
        tracking_id=name[:_LONGEST_LABEL],
    )
    if code.side is not None:
        kind = described.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [code.side]
    return described
