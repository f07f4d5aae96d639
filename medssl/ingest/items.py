"""Units of work: what is converted together, recorded together, and redone together."""

from dataclasses import dataclass
from typing import Any

from medssl.io.deidentify import ScanKeys
from medssl.io.dicom.slices import SliceHeader
from medssl.io.sources.folder import FileRef
from medssl.library.outcomes import FileOutcome


@dataclass(frozen=True, kw_only=True)
class Item:
    """The files of one DICOM series, or one NIfTI file."""

    key: str
    """Stays the same when files are added to the series, or the file changes."""
    files: tuple[FileRef, ...]
    signature: str
    """Changes when any file does, or the way of converting it: the item is then redone."""


@dataclass(frozen=True, kw_only=True)
class DicomItem(Item):
    """One series."""

    headers: tuple[SliceHeader, ...]


@dataclass(frozen=True, kw_only=True)
class NiftiItem(Item):
    """One file."""

    keys: ScanKeys
    modality: str


@dataclass(frozen=True, kw_only=True)
class ItemResult:
    """What became of an item: one outcome per file, one catalog row per volume."""

    key: str
    signature: str
    files: tuple[FileOutcome, ...]
    volumes: tuple[dict[str, Any], ...]
