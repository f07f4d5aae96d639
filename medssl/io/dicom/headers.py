"""Read a DICOM header, without pixels, into slices that no longer name anybody."""

import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset

from medssl.io import deidentify
from medssl.io.deidentify import Pseudonymizer, ScanKeys
from medssl.io.dicom import vocabulary as terms
from medssl.io.dicom.accept import refuse_strangers
from medssl.io.dicom.acquisition import acquisition_of, seconds_after
from medssl.io.dicom.decoders import decodable
from medssl.io.dicom.elements import (
    Elements,
    RawElement,
    as_dataset,
    find_elements,
    little_endian,
)
from medssl.io.dicom.frames import frames_of, phase_of
from medssl.io.dicom.mosaic import MOSAIC_TAGS, is_mosaic, says_mosaic
from medssl.io.dicom.pet import pet_of
from medssl.io.dicom.pixel_format import pixel_format
from medssl.io.dicom.slices import Plane, SliceHeader, Vector
from medssl.io.dicom.stream import (
    bytes_left,
    has_preamble,
    open_dicom,
    pixel_element_length,
    read_dataset,
)
from medssl.io.dicom.values import (
    floats_of,
    integer_of,
    optional_integer_of,
    text_of,
    words_of,
)
from medssl.io.limits import Limits
from medssl.io.reasons import reject
from medssl.io.untrusted import untrusted

_IDENTITY_TAGS = [
    "PatientID",
    "IssuerOfPatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "FrameOfReferenceUID",
]
_TAGS = _IDENTITY_TAGS + terms.HEADER_TAGS + terms.ACQUISITION_TAGS + terms.PET_TAGS
_PARSED_TAGS = [*_TAGS, *terms.PET_TIME_TAGS, *terms.PHILIPS_PET_TAGS]
_WANTED = frozenset(map(little_endian, _TAGS))
_IMAGE_TYPE = little_endian("ImageType")
_OWN = tuple(map(little_endian, ["SOPInstanceUID", "ImagePositionPatient", "InstanceNumber"]))
"""What differs from slice to slice of a series."""
_DECIMAL = rb" *([-+]?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?) *"
_OWN_USUALLY = tuple(
    (vr, re.compile(pattern).fullmatch)
    for vr, pattern in (
        ("UI", rb"([0-9.]+)\0?"),
        ("DS", rb"\\".join([_DECIMAL] * 3)),
        ("IS", rb" *([-+]?[0-9]+) *"),
    )
)
"""The types and spellings of ``_OWN`` that need no parser."""
_WHEN = tuple(map(little_endian, ["AcquisitionDateTime", "AcquisitionTime"]))
"""Likewise, in many scans."""
_SHARED = tuple(sorted(_WANTED - {*_OWN, *_WHEN}))
_RIGHT_ANGLE_COSINE = 1e-2
_MOST_FRAMES = 2**31


def read_headers(
    path: Path, file_key: str, pseudonymizer: Pseudonymizer, limits: Limits
) -> list[SliceHeader]:
    """Return the slices of one DICOM file: one, or one per frame or tile.

    Damage that makes the slice unusable is noted in ``SliceHeader.defect``, so that the rest of
    its series is not taken for a complete volume.

    Raises:
        RejectedFileError: for what is no image of a scan, or whose series cannot be told.
    """
    with untrusted("damaged_header"), open_dicom(path, limits) as stream:
        inflated = isinstance(stream, io.BytesIO)
        elements = None if inflated else find_elements(stream, _WANTED)
        if elements is not None and not says_mosaic(elements.values.get(_IMAGE_TYPE)):
            place = (path, file_key)
            return [
                _slice_of_plain_file(elements, place, path.stat().st_size, pseudonymizer, limits)
            ]
        dataset = _parsed(stream)
        refuse_strangers(dataset, preamble=has_preamble(path))
        length = pixel_element_length(stream, dataset)
        announced = _announced_bytes(dataset)
        defect = _length_defect(announced, length, bytes_left(stream)) or _defect(dataset, limits)
        keys = _keys(dataset, pseudonymizer)
        return [
            replace(header, path=path, file_key=file_key, defect=defect or header.defect)
            for header in _slices(dataset, keys, pseudonymizer)
        ]


def _parsed(stream: BinaryIO) -> Dataset:
    """Return the elements that are read of a file; ``stream`` is left at its pixels."""
    stream.seek(0)
    dataset = read_dataset(stream, _PARSED_TAGS, pixels=False)
    if is_mosaic(dataset):
        stream.seek(0)
        dataset = read_dataset(stream, [*_PARSED_TAGS, *MOSAIC_TAGS], pixels=False)
    return dataset


def _slice_of_plain_file(
    elements: Elements,
    place: tuple[Path, str],
    size: int,
    pseudonymizer: Pseudonymizer,
    limits: Limits,
) -> SliceHeader:
    """Return the slice of a file whose elements were found; most are those of its neighbours."""
    path, file_key = place
    shared = _shared(elements.only(_SHARED), elements.syntax, pseudonymizer, limits)
    instance, origin, number = _own(elements)
    if not instance:
        raise reject("damaged_header")
    left = size - elements.pixels_start
    template = shared.header
    plane = template.plane
    date_time, time = (elements.values.get(tag, (None, b""))[1] for tag in _WHEN)
    after_s = seconds_after(shared.study_time, date_time.decode("latin1"), time.decode("latin1"))
    return replace(
        template,
        path=path,
        file_key=file_key,
        keys=replace(template.keys, instance=pseudonymizer.instance_key(instance)),
        plane=replace(plane, origin_LPS_mm=origin) if plane and origin else None,
        instance_number=number,
        acquisition=replace(template.acquisition, acquisition_s=after_s),
        pixels_start=elements.pixels_start,
        defect=_length_defect(shared.announced, elements.pixels_length, left)
        or shared.defect
        or ("no_geometry" if origin is None else template.defect),
    )


def _own(elements: Elements) -> tuple[str, Vector | None, int | None]:
    """Return the instance, the origin and the number of a slice, as far as they are there."""
    raw = elements.only(_OWN)
    if len(raw) == len(_OWN):
        found = [
            spelt(value) if vr in (None, usual) else None
            for (_, vr, value), (usual, spelt) in zip(raw, _OWN_USUALLY, strict=True)
        ]
        if all(found):
            (uid,), origin, (number,) = (match.groups() for match in found if match)
            x, y, z = map(float, origin)
            return uid.decode("ascii"), (x, y, z), int(number)
    own = as_dataset(raw, elements.syntax)
    origin = floats_of([own], "ImagePositionPatient", 3)
    return text_of(own, "SOPInstanceUID"), origin, optional_integer_of([own], "InstanceNumber")


@dataclass(frozen=True, slots=True)
class _Shared:
    """What the slices of a series have in common."""

    header: SliceHeader
    """Of a slice at the origin, of no file."""
    announced: int
    defect: str | None
    study_time: str


@lru_cache(maxsize=1024)
def _shared(
    elements: tuple[RawElement, ...], syntax: str, pseudonymizer: Pseudonymizer, limits: Limits
) -> _Shared:
    dataset = as_dataset(elements, syntax)
    dataset.SOPInstanceUID, dataset.ImagePositionPatient = "0", [0, 0, 0]
    refuse_strangers(dataset, preamble=True)
    keys = _keys(dataset, pseudonymizer)
    ((index, layers),) = frames_of(dataset)
    header = _slice(layers, index, dataset, keys, pseudonymizer)
    announced, study_time = _announced_bytes(dataset), text_of(dataset, "StudyTime")
    return _Shared(header, announced, _defect(dataset, limits), study_time)


def _announced_bytes(dataset: Dataset) -> int:
    """Return how many bytes the pixels take up, uncompressed, by what the header says."""
    frames = integer_of([dataset], "NumberOfFrames", 1)
    pixels = integer_of([dataset], "Rows") * integer_of([dataset], "Columns") * frames
    return pixels * integer_of([dataset], "BitsAllocated") // 8


def _length_defect(announced: int, length: int | None, left: int) -> str | None:
    """Compare what the header announces with what is there, before anything is allocated."""
    if length is None or announced <= 0:
        return "no_pixel_data"
    if length > left:
        return "truncated_pixel_data"
    return "pixel_length_mismatch" if 0 <= length < announced else None


def _defect(dataset: Dataset, limits: Limits) -> str | None:
    """Return why the pixels cannot be read, as far as the header alone tells."""
    frames = integer_of([dataset], "NumberOfFrames", 1)
    groups = len(dataset.get("PerFrameFunctionalGroupsSequence") or [dataset])
    checks = {
        "frames_undescribed": frames != groups,
        "too_large": _announced_bytes(dataset) > limits.volume_bytes,
        "unsupported_transfer_syntax": not decodable(dataset.file_meta.TransferSyntaxUID),
    }
    return next((code for code, failed in checks.items() if failed), None)


def _keys(dataset: Dataset, pseudonymizer: Pseudonymizer) -> ScanKeys:
    patient_id = text_of(dataset, "PatientID")
    study, series = text_of(dataset, "StudyInstanceUID"), text_of(dataset, "SeriesInstanceUID")
    instance = text_of(dataset, "SOPInstanceUID")
    if not (study and series and instance):
        raise reject("damaged_header")
    return ScanKeys(
        patient=pseudonymizer.patient_key(patient_id, text_of(dataset, "IssuerOfPatientID"))
        if patient_id
        else pseudonymizer.patient_key(study, "the study stands for its patient"),
        study=pseudonymizer.study_key(study),
        series=pseudonymizer.series_key(series),
        instance=pseudonymizer.instance_key(instance),
        frame=pseudonymizer.frame_key(text_of(dataset, "FrameOfReferenceUID")),
        patient_known=bool(patient_id),
    )


def _slices(
    dataset: Dataset, keys: ScanKeys, pseudonymizer: Pseudonymizer
) -> Iterator[SliceHeader]:
    """Yield the slices of a data set; the tiles of a mosaic differ in their places only."""
    first = None
    for index, layers in frames_of(dataset):
        if first is None or not is_mosaic(dataset):
            first = _slice(layers, index, dataset, keys, pseudonymizer)
            yield first
        else:
            number, (plane, _) = _number(dataset, index), _plane(layers)
            yield replace(first, frame_index=index, instance_number=number, plane=plane)


def _slice(
    layers: Sequence[Dataset],
    index: int | None,
    dataset: Dataset,
    keys: ScanKeys,
    pseudonymizer: Pseudonymizer,
) -> SliceHeader:
    """Return what the header says of a slice, of no file yet."""
    plane, defect = _plane(layers)
    return SliceHeader(
        path=Path(),
        file_key="",
        frame_index=index,
        keys=keys,
        modality=text_of(dataset, "Modality"),
        image_type=words_of(dataset, "ImageType"),
        body_part=deidentify.body_part(text_of(dataset, "BodyPartExamined")),
        plane=plane,
        thickness_mm=_thickness_mm(layers),
        pixels=pixel_format(layers, dataset),
        instance_number=_number(dataset, index),
        phase=tuple(phase_of(layers)),
        acquisition=acquisition_of(layers, dataset, pseudonymizer, keys.patient),
        pet=pet_of(dataset, enhanced=index is not None),
        defect=defect,
    )


def _number(dataset: Dataset, index: int | None) -> int | None:
    """Return the number of a slice in its series; frames of a later file come later."""
    number = optional_integer_of([dataset], "InstanceNumber")
    return number if index is None else (number or 0) * _MOST_FRAMES + index


def _plane(layers: Sequence[Dataset]) -> tuple[Plane | None, str | None]:
    """Return where the slice lies, or why that is not known."""
    cosines = floats_of(layers, "ImageOrientationPatient", 6)
    origin = floats_of(layers, "ImagePositionPatient", 3)
    spacing = floats_of(layers, "PixelSpacing", 2)
    if cosines is None or origin is None:
        return None, "no_geometry"
    if spacing is None or min(spacing) <= 0:
        return None, "no_pixel_spacing"
    row, column = cosines[:3], cosines[3:]
    lengths = math.hypot(*row), math.hypot(*column)
    overlap = sum(r * c for r, c in zip(row, column, strict=True))
    if max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(overlap)) > _RIGHT_ANGLE_COSINE:
        return None, "bad_orientation"
    row_unit = tuple(value / lengths[0] for value in row)
    square = [c - overlap * r for c, r in zip(column, row_unit, strict=True)]
    column_unit = tuple(value / math.hypot(*square) for value in square)
    plane = Plane(
        row_LPS=row_unit, column_LPS=column_unit, origin_LPS_mm=origin, spacing_mm=spacing
    )
    return plane, None


def _thickness_mm(layers: Sequence[Dataset]) -> float | None:
    stated = floats_of(layers, "SliceThickness", 1)
    return stated[0] if stated and stated[0] > 0 else None
