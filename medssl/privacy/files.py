"""One DICOM file in, one that may leave out, or the reason why it may not."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom import DataElement, Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless

from medssl.errors import RejectedFileError
from medssl.io.deidentify import Pseudonymizer
from medssl.io.dicom.headers import read_headers
from medssl.io.dicom.slices import SliceHeader
from medssl.io.dicom.stream import open_dicom, read_dataset
from medssl.io.head_fov import head_fov
from medssl.io.limits import Limits
from medssl.io.untrusted import untrusted
from medssl.privacy import pixels
from medssl.privacy.header import Dates, HeaderCleaner
from medssl.privacy.refusals import REFUSED, refuse

IMPLEMENTATION_UID = UID("2.25.302613085237129374860932175043212875213")
_PIXEL_DATA = Tag("PixelData")

_HEAD_WORDS = ("HEAD", "BRAIN", "SKULL", "FACE", "FACIAL", "NEURO", "CRANI", "ORBIT", "SINUS")
_DESCRIPTIONS = ["BodyPartExamined", "StudyDescription", "SeriesDescription", "ProtocolName"]


@dataclass(frozen=True)
class FileRules:
    """What one file is held to."""

    pseudonymizer: Pseudonymizer
    limits: Limits
    dates: Dates
    characteristics: bool
    allow_faces: bool


@dataclass(frozen=True)
class CleanFile:
    """A data set that may leave, and the pseudonyms that name it."""

    header: SliceHeader
    dataset: Dataset

    @property
    def name(self) -> Path:
        """Where it is written: patient, study, series, instance."""
        return name_of(self.header)


def name_of(header: SliceHeader) -> Path:
    """Return where a file is written: patient, study, series, instance."""
    keys = header.keys
    return Path(keys.patient, keys.study, keys.series, f"{keys.instance}.dcm")


def read_header(path: Path, file_key: str, rules: FileRules) -> SliceHeader:
    """Return the first of ``read_frames``."""
    return read_frames(path, file_key, rules)[0]


def read_frames(path: Path, file_key: str, rules: FileRules) -> Sequence[SliceHeader]:
    """Return the slices of ``path``, which ``ingest`` would take too.

    Raises:
        RejectedFileError: it is no image of a scan, is damaged, or may have text burned in.
    """
    try:
        frames = read_headers(path, file_key, rules.pseudonymizer, rules.limits)
    except RejectedFileError as error:
        if error.code == "mosaic_unsupported":
            raise refuse("needs_private_elements") from None
        raise (refuse(error.code) if error.code in REFUSED else error) from None
    header = frames[0]
    if "MOSAIC" in header.image_type:
        raise refuse("needs_private_elements")
    if header.defect is not None:
        raise RejectedFileError(header.defect, "Its pixels or its place cannot be read.")
    return frames


def may_show_face(frames: Sequence[SliceHeader], limits: Limits) -> bool:
    """Return whether a file shows a head, or does not say that it shows something else.

    Besides the rule of the catalog, a word in a description counts that speaks of a head.
    """
    if head_fov(frames[0].body_part, _length_mm(frames)) != "no":
        return True
    with untrusted("damaged_header"), open_dicom(frames[0].path, limits) as stream:
        dataset = read_dataset(stream, _DESCRIPTIONS, pixels=False)
        said = " ".join(str(dataset.get(keyword) or "") for keyword in _DESCRIPTIONS).upper()
        return any(word in said for word in _HEAD_WORDS)


def _length_mm(frames: Sequence[SliceHeader]) -> float:
    """Return how far up and down the patient the frames of a file reach; infinite if unknown."""
    heights_mm = []
    for frame in frames:
        if frame.plane is None:
            return math.inf
        plane, pixels = frame.plane, frame.pixels
        row_mm = plane.row_LPS[2] * plane.spacing_mm[1] * pixels.columns
        column_mm = plane.column_LPS[2] * plane.spacing_mm[0] * pixels.rows
        top_mm = plane.origin_LPS_mm[2]
        heights_mm += [top_mm, top_mm + row_mm, top_mm + column_mm, top_mm + row_mm + column_mm]
    return max(heights_mm) - min(heights_mm)


def clean_file(header: SliceHeader, rules: FileRules, *, defaced: bytes | None = None) -> CleanFile:
    """Return what of the file may leave.

    Args:
        header: its header, as ``read_header`` returns it.
        rules: what it is held to.
        defaced: pixels without a face, uncompressed, little-endian; None: those of the file.

    Raises:
        RejectedFileError: it cannot be read to its end.
    """
    cleaner = HeaderCleaner(
        rules.pseudonymizer, header.keys.patient, rules.dates, rules.characteristics
    )
    with untrusted("damaged_header"):
        with open_dicom(header.path, rules.limits) as stream:
            source = dcmread(stream, force=True)
        if "TransferSyntaxUID" not in source.file_meta:
            with open_dicom(header.path, rules.limits) as stream:
                source.file_meta = read_dataset(stream, [], pixels=False).file_meta
        clean = cleaner.clean(source, defaced=defaced is not None)
        _put_pixels(source, clean, defaced)
        syntax = source.file_meta.TransferSyntaxUID if defaced is None else ExplicitVRLittleEndian
        clean.file_meta = _file_meta(clean, syntax)
    return CleanFile(header, clean)


def write(dataset: Dataset, target: BinaryIO | Path) -> None:
    """Write a clean data set with an empty preamble."""
    dataset.preamble = bytes(128)
    with untrusted("damaged_header"):
        dataset.save_as(target, enforce_file_format=True)


def _put_pixels(source: Dataset, clean: Dataset, defaced: bytes | None) -> None:
    syntax = source.file_meta.TransferSyntaxUID
    compressed = defaced is None and syntax.is_compressed and not syntax.is_deflated
    if defaced is not None:
        value = defaced
    elif compressed:
        value = pixels.encapsulated(source.PixelData, coded=syntax != RLELossless)
    else:
        value = pixels.native(source, little_endian=syntax.is_little_endian)
    vr = "OB" if compressed else source[_PIXEL_DATA].VR
    element = DataElement(_PIXEL_DATA, vr if vr in {"OB", "OW"} else "OW", value)
    element.is_undefined_length = compressed
    clean.add(element)


def _file_meta(clean: Dataset, syntax: UID) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = clean.SOPClassUID
    meta.MediaStorageSOPInstanceUID = clean.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    meta.ImplementationClassUID = IMPLEMENTATION_UID
    meta.ImplementationVersionName = "MEDSSL"
    return meta
