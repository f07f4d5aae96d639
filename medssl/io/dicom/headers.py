"""Read a DICOM header, without pixels, into slices that no longer name anybody."""

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import UID

from medssl.io import deidentify
from medssl.io.deidentify import Pseudonymizer, ScanKeys
from medssl.io.dicom import vocabulary as terms
from medssl.io.dicom.acquisition import acquisition_of
from medssl.io.dicom.decoders import decodable
from medssl.io.dicom.elements import (
    Elements,
    RawElement,
    as_dataset,
    find_elements,
    little_endian,
)
from medssl.io.dicom.pet import pet_of
from medssl.io.dicom.plain import plain_type
from medssl.io.dicom.slices import PixelFormat, Plane, SliceHeader
from medssl.io.dicom.stream import (
    bytes_left,
    has_preamble,
    open_dicom,
    pixel_element_length,
    read_dataset,
)
from medssl.io.dicom.values import (
    floats_of,
    innermost,
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
_OWN = tuple(map(little_endian, ["SOPInstanceUID", "ImagePositionPatient", "InstanceNumber"]))
"""What differs from slice to slice of a series."""
_SHARED = tuple(sorted(_WANTED - set(_OWN)))
_RIGHT_ANGLE_COSINE = 1e-2


def read_headers(
    path: Path, file_key: str, pseudonymizer: Pseudonymizer, limits: Limits
) -> list[SliceHeader]:
    """Return the slices of one DICOM file: one, or one per frame.

    Damage that makes the slice unusable is noted in ``SliceHeader.defect``, so that the rest of
    its series is not taken for a complete volume.

    Raises:
        RejectedFileError: for what is no image of a scan, or whose series cannot be told.
    """
    with untrusted("damaged_header"), open_dicom(path, limits) as stream:
        inflated = isinstance(stream, io.BytesIO)
        elements = None if inflated else find_elements(stream, _WANTED)
        if elements is not None:
            place = (path, file_key)
            return [
                _slice_of_plain_file(elements, place, path.stat().st_size, pseudonymizer, limits)
            ]
        stream.seek(0)
        dataset = read_dataset(stream, _PARSED_TAGS, pixels=False)
        _refuse_strangers(dataset, preamble=has_preamble(path))
        length = pixel_element_length(stream, dataset)
        announced = _announced_bytes(dataset)
        defect = _length_defect(announced, length, bytes_left(stream)) or _defect(dataset, limits)
        keys = _keys(dataset, pseudonymizer)
        slices = [
            _slice(layers, index, dataset, keys, pseudonymizer)
            for index, layers in _frames(dataset)
        ]
        return [
            replace(header, path=path, file_key=file_key, defect=defect or header.defect)
            for header in slices
        ]


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
    own = as_dataset(elements.only(_OWN), elements.syntax)
    instance = text_of(own, "SOPInstanceUID")
    if not instance:
        raise reject("damaged_header")
    origin = floats_of([own], "ImagePositionPatient", 3)
    left = size - elements.pixels_start
    template = shared.header
    plane = template.plane
    return replace(
        template,
        path=path,
        file_key=file_key,
        keys=replace(template.keys, instance=pseudonymizer.instance_key(instance)),
        plane=replace(plane, origin_LPS_mm=origin) if plane and origin else None,
        instance_number=optional_integer_of([own], "InstanceNumber"),
        pixels_start=elements.pixels_start,
        defect=_length_defect(shared.announced, elements.pixels_length, left)
        or shared.defect
        or ("no_geometry" if origin is None else template.defect),
    )


@dataclass(frozen=True, slots=True)
class _Shared:
    """What the slices of a series have in common."""

    header: SliceHeader
    """Of a slice at the origin, of no file."""
    announced: int
    defect: str | None


@lru_cache(maxsize=1024)
def _shared(
    elements: tuple[RawElement, ...], syntax: str, pseudonymizer: Pseudonymizer, limits: Limits
) -> _Shared:
    dataset = as_dataset(elements, syntax)
    dataset.SOPInstanceUID, dataset.ImagePositionPatient = "0", [0, 0, 0]
    _refuse_strangers(dataset, preamble=True)
    keys = _keys(dataset, pseudonymizer)
    ((index, layers),) = _frames(dataset)
    header = _slice(layers, index, dataset, keys, pseudonymizer)
    return _Shared(header, _announced_bytes(dataset), _defect(dataset, limits))


def _refuse_strangers(dataset: Dataset, *, preamble: bool) -> None:
    """Reject what is not an image of one of the accepted modalities."""
    sop_class = UID(
        text_of(dataset, "SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID", "")
    )
    accepted = terms.IMAGE_CLASSES | terms.MULTIFRAME_CLASSES
    image_type = set(words_of(dataset, "ImageType"))
    if sop_class not in accepted and not preamble:
        # pydicom, told to, reads any bytes as DICOM; without the preamble only this tells.
        raise reject("not_dicom")
    if not sop_class:
        raise reject("damaged_header")
    if sop_class == terms.DICOMDIR_CLASS:
        raise reject("dicomdir")
    if sop_class in terms.CAPTURE_CLASSES:
        raise reject("secondary_capture")
    if sop_class not in accepted or text_of(dataset, "Modality") not in terms.MODALITIES:
        raise reject("unsupported_modality")
    if text_of(dataset, "BurnedInAnnotation") == "YES" or image_type & terms.SCREEN_TYPES:
        raise reject("burned_in_risk")
    if image_type & terms.LOCALIZER_TYPES:
        raise reject("localizer")
    if image_type & terms.PROJECTION_TYPES:
        raise reject("projection")
    if integer_of([dataset], "SamplesPerPixel", 1) != 1:
        raise reject("rgb")


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
        "mosaic_unsupported": "MOSAIC" in words_of(dataset, "ImageType"),
        "multiframe_unsupported": frames != groups,
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


def _frames(dataset: Dataset) -> Iterator[tuple[int | None, list[Dataset]]]:
    """Yield each frame with the places to look a value up, its own groups first."""
    own = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if not own:
        yield None, [dataset]
        return
    shared = [
        macro
        for groups in dataset.get("SharedFunctionalGroupsSequence") or []
        for macro in _macros(groups)
    ]
    for index, groups in enumerate(own):
        yield index, [*_macros(groups), *shared, dataset]


def _macros(groups: Dataset) -> list[Dataset]:
    return [element.value[0] for element in groups if element.VR == "SQ" and element.value]


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
        pixels=_pixel_format(layers, dataset),
        instance_number=optional_integer_of(layers, "InstanceNumber") if index is None else index,
        phase=tuple(_phase(layers)),
        acquisition=acquisition_of(layers, dataset, pseudonymizer, keys.patient),
        pet=pet_of(dataset, enhanced=index is not None),
        defect=defect,
    )


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


def _pixel_format(layers: Sequence[Dataset], dataset: Dataset) -> PixelFormat:
    allocated = integer_of(layers, "BitsAllocated")
    signed = integer_of(layers, "PixelRepresentation") == 1
    slope, intercept = (
        floats_of(layers, "RescaleSlope", 1),
        floats_of(layers, "RescaleIntercept", 1),
    )
    return PixelFormat(
        rows=integer_of(layers, "Rows"),
        columns=integer_of(layers, "Columns"),
        bits=integer_of(layers, "BitsStored", allocated),
        signed=signed,
        syntax=dataset.file_meta.TransferSyntaxUID.name,
        slope=slope[0] if slope else None,
        intercept=intercept[0] if intercept else None,
        rescale_type=text_of(innermost(layers, "RescaleType"), "RescaleType").upper(),
        padding=_padding(dataset, allocated, signed=signed),
        inverted=text_of(dataset, "PhotometricInterpretation") == "MONOCHROME1",
        plain=plain_type(dataset),
    )


def _padding(dataset: Dataset, bits: int, *, signed: bool) -> tuple[int, int] | None:
    value = optional_integer_of([dataset], "PixelPaddingValue")
    if value is None:
        return None
    other = integer_of([dataset], "PixelPaddingRangeLimit", value)
    low, high = sorted(_as_stored(number, bits, signed=signed) for number in (value, other))
    return low, high


def _as_stored(number: int, bits: int, *, signed: bool) -> int:
    """Read a padding value written in the wrong one of US and SS: 63536 is -2000 when signed."""
    wrapped = number % (1 << bits)
    return wrapped - (1 << bits) if signed and wrapped >= 1 << (bits - 1) else wrapped


def _phase(layers: Sequence[Dataset]) -> Iterator[tuple[str, float | str]]:
    for label, keywords in terms.PHASE_TAGS.items():
        for keyword in keywords:
            number = floats_of(layers, keyword, 1)
            text = text_of(innermost(layers, keyword), keyword)
            if number or text:
                yield label, number[0] if number else text
                break
