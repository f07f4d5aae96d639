"""Damaged files by the thousand: every kind of scan file, hurt in every way bytes can be."""

import gzip
import io
import re
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import gdcm
import numpy as np
from pydicom import dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests import bad_files, phantoms

AFFINE = phantoms.affine_ras()
SHAPE = (40, 36, 4)
EXTREMES = (0, 1, 2, 3, 127, 128, 255, 32767, 32768, 65534, 65535, 2**31 - 1, 2**31, 2**32 - 2)

Hurt = Callable[[bytearray, np.random.Generator], bytearray]


def write(folder: Path, count: int, *, seed: int) -> list[Path]:
    """Write ``count`` damaged files: file n is the same for the same seed, whatever the count."""
    folder.mkdir(parents=True)
    kinds = sorted(KINDS)
    paths = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        kind = kinds[number % len(kinds)]
        hurt = str(rng.choice(sorted(_hurts(kind))))
        content = _hurts(kind)[hurt](bytearray(KINDS[kind](number)), rng)
        path = folder / f"{number:05d}-{hurt}-{kind}"
        path.write_bytes(content)
        paths.append(path)
    return paths


# Whole files, each a series of its own


@cache
def _slices(modality="CT", syntax=None):
    array = phantoms.phantom(AFFINE, SHAPE)
    slices = phantoms.dicom_slices(array, AFFINE, modality=modality)
    for ds in slices:
        ds.SliceThickness = "3"  # a single slice with one is a volume: its pixels are decoded too
        if syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless):
            ds.compress(syntax, generate_instance_uid=False)
        elif syntax is not None:
            ds.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            ds.PixelData = np.frombuffer(ds.PixelData, "<i2").astype(">i2").tobytes()
            ds["PixelData"].VR = "OW"
    return slices


@cache
def _enhanced():
    slices = phantoms.dicom_slices(phantoms.phantom(AFFINE, SHAPE), AFFINE)
    return phantoms.enhanced(slices, EnhancedCTImageStorage)


@cache
def _jpeg_lossless():
    """Return the slice as JPEG lossless, which pydicom reads and does not write."""
    with tempfile.TemporaryDirectory() as scratch:
        plain, packed = f"{scratch}/plain", f"{scratch}/packed"
        Path(plain).write_bytes(_saved(_slices()[0], 0))
        reader = gdcm.ImageReader()
        reader.SetFileName(plain)
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(packed)
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        ds = dcmread(packed)
    assert ds.file_meta.TransferSyntaxUID == JPEGLosslessSV1
    return ds


def _saved(ds, number):
    for place, keyword in enumerate(("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")):
        setattr(ds, keyword, f"1.2.826.0.1.{place}.{number + 1}")
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    stream = io.BytesIO()
    ds.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _zip(number):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("scan/slice.dcm", _saved(_slices()[0], number))
        archive.writestr("scan/volume.nii", bad_files.nifti_bytes())
    return stream.getvalue()


def _tar(number):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        content = _saved(_slices()[0], number)
        member = tarfile.TarInfo("scan/slice.dcm")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


KINDS: dict[str, Callable[[int], bytes]] = {
    "explicit.dcm": lambda n: _saved(_slices()[0], n),
    "implicit.dcm": lambda n: _saved(_slices("MR", ImplicitVRLittleEndian)[0], n),
    "deflated.dcm": lambda n: _saved(_slices("CT", DeflatedExplicitVRLittleEndian)[0], n),
    "rle.dcm": lambda n: _saved(_slices("CT", RLELossless)[0], n),
    "jpeg2000.dcm": lambda n: _saved(_slices("CT", JPEG2000Lossless)[0], n),
    "jpeg_ls.dcm": lambda n: _saved(_slices("CT", JPEGLSLossless)[0], n),
    "jpeg_lossless.dcm": lambda n: _saved(_jpeg_lossless(), n),
    "enhanced.dcm": lambda n: _saved(_enhanced(), n),
    "plain.nii": lambda n: bad_files.nifti_bytes(),
    "packed.nii.gz": lambda n: gzip.compress(bad_files.nifti_bytes(), mtime=0),
    "archive.zip": _zip,
    "archive.tar.gz": _tar,
    "big_endian.dcm": lambda n: _saved(_slices("MR", ExplicitVRBigEndian)[0], n),
}


# Ways to hurt bytes


def flip_bytes(content, rng):
    """Some bytes become others, anywhere."""
    for place in rng.integers(len(content), size=rng.integers(1, 12)):
        content[place] = rng.integers(256)
    return content


def flip_head(content, rng):
    """Some bytes become others within the first 2 KiB, where headers are."""
    for place in rng.integers(min(len(content), 2048), size=rng.integers(1, 6)):
        content[place] = rng.integers(256)
    return content


def cut(content, rng):
    """The end is missing."""
    return content[: rng.integers(len(content))]


def cut_middle(content, rng):
    """A piece in the middle is missing."""
    start = rng.integers(len(content))
    del content[start : start + rng.integers(1, 600)]
    return content


def repeat(content, rng):
    """A piece stands twice."""
    start = rng.integers(len(content))
    content[start:start] = content[start : start + rng.integers(1, 600)]
    return content


def blank(content, rng):
    """A piece is zeros, as on a bad disk."""
    start = rng.integers(len(content))
    stop = min(len(content), start + int(rng.integers(1, 2048)))
    content[start:stop] = bytes(stop - start)
    return content


def noise(content, rng):
    """A piece is random."""
    start = rng.integers(len(content))
    stop = min(len(content), start + int(rng.integers(1, 2048)))
    content[start:stop] = rng.bytes(stop - start)
    return content


def extreme_number(content, rng):
    """Two or four bytes become a number at the edge of what they hold."""
    size = int(rng.choice([2, 4]))
    number = int(rng.choice(EXTREMES)) % 2 ** (8 * size)
    order = str(rng.choice(["little", "big"]))
    start = rng.integers(max(len(content) - size, 1))
    content[start : start + size] = number.to_bytes(size, order)
    return content


def _wrong_lengths(content, rng):
    """One element announces another length than it has."""
    starts = [found.start() for found in _ELEMENT.finditer(content, 132)]
    if not starts:
        return flip_head(content, rng)
    start = int(rng.choice(starts))
    at, size = (start + 8, 4) if content[start + 4 : start + 6] in _LONG_VRS else (start + 6, 2)
    number = int(rng.choice(EXTREMES)) % 2 ** (8 * size)
    content[at : at + size] = number.to_bytes(size, "little")
    return content


def _wrong_sizes(content, rng):
    """Rows, columns, bits, samples or the like hold another number."""
    for element in rng.choice([0x0002, 0x0010, 0x0011, 0x0100, 0x0101, 0x0102, 0x0103], size=2):
        start = content.find(struct.pack("<HH", 0x0028, int(element)))
        if start > 0:
            content[start + 8 : start + 10] = struct.pack("<H", rng.choice(EXTREMES) % 2**16)
    return content


def _wrong_nifti_fields(content, rng):
    """Fields of the NIfTI header hold other numbers."""
    for start, size in rng.permutation(_NIFTI_FIELDS)[:2]:
        at = start + int(rng.integers(size // 2)) * 2
        kind = str(rng.choice(["<h", "<f", "<i"]))
        bits = 8 * struct.calcsize(kind)
        whole = int(rng.choice(EXTREMES)) % 2**bits - 2 ** (bits - 1)
        odd = float(rng.choice([0, -1, 1e30, np.nan, np.inf]))
        packed = struct.pack(kind, odd if kind == "<f" else whole)
        content[at : at + len(packed)] = packed
    return content


_LONG_VRS = (b"OB", b"OW", b"SQ", b"UN", b"UT")
_ELEMENT = re.compile(rb"(?s).{4}(OB|OW|SQ|UN|UT|CS|DS|IS|LO|PN|UI|US|SH|UL)")
_NIFTI_FIELDS = (
    (40, 16),
    (70, 4),
    (76, 32),
    (108, 4),
    (112, 8),
    (252, 4),
    (256, 24),
    (280, 48),
    (344, 4),
)

_ANYWHERE: dict[str, Hurt] = {
    f.__name__: f
    for f in (flip_bytes, flip_head, cut, cut_middle, repeat, blank, noise, extreme_number)
}


def _hurts(kind: str) -> dict[str, Hurt]:
    """Return the ways to hurt a file of ``kind``, by name."""
    if kind.endswith(".dcm"):
        return _ANYWHERE | {"lengths": _wrong_lengths, "sizes": _wrong_sizes}
    if kind == "plain.nii":
        return _ANYWHERE | {"fields": _wrong_nifti_fields}
    return _ANYWHERE
