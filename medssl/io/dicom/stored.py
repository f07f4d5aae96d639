"""The stored values of slices: as they lie in a file, or through a decoder, several at once."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import NewType, TypeAlias

import numpy as np
from pydicom.encaps import generate_frames
from pydicom.pixels.utils import pixel_array
from pydicom.uid import RLELossless

from medssl.io.dicom import vocabulary as terms
from medssl.io.dicom.codestream import fragments
from medssl.io.dicom.decoders import decode
from medssl.io.dicom.mosaic import cut
from medssl.io.dicom.plain import read_plain
from medssl.io.dicom.slices import SliceHeader
from medssl.io.dicom.stream import open_dicom, read_dataset
from medssl.io.limits import Limits
from medssl.io.narrow import VoxelArray
from medssl.io.reasons import reject
from medssl.io.untrusted import silenced, untrusted

_PIXEL_DATA, _OPEN_LENGTH = b"\xe0\x7f\x10\x00", b"\xff\xff\xff\xff"
_HEAD_BYTES = 12
"""Before compressed pixels: the tag, the VR, and a length left open."""

StoredPixels = NewType("StoredPixels", VoxelArray)
"""Pixels as they stand in the file, before the rescale values make intensities of them."""

_Images: TypeAlias = list[bytes] | VoxelArray
"""The images of a file: streams still to be decoded, or (images, rows, columns)."""


def read_stored(
    slices: Sequence[SliceHeader], limits: Limits, threads: int = 1
) -> Iterator[StoredPixels]:
    """Yield the stored values of each of ``slices``, (rows, columns), in their order.

    Args:
        slices: a file is read once for those of its slices that follow each other.
        limits: bounds on what is inflated.
        threads: how many slices may be decoded at once, and so are held in memory. Neither what
            is yielded nor what is raised depends on it.

    Raises:
        RejectedFileError: ``undecodable_pixels``, ``truncated_pixel_data``, ``unreadable_file``.
    """
    read = _Reader(limits).read
    if threads == 1 or not any(_takes_long(header) for header in slices):
        yield from map(read, slices)
        return
    ahead: deque[Future[StoredPixels]] = deque()
    with silenced(), ThreadPoolExecutor(threads) as pool:
        try:
            for header in slices:
                ahead.append(pool.submit(read, header))
                if len(ahead) > threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def digester(limits: Limits) -> Callable[[SliceHeader], str]:
    """Return a function that gives the digest of a slice's stored values.

    A file is read once, however many of its slices are asked for and in whatever order.
    """
    digests: dict[Path, list[str]] = {}

    def digest(header: SliceHeader) -> str:
        if header.path not in digests:
            every = _stored_in_file(header, limits)
            digests[header.path] = [hashlib.sha256(v.tobytes()).hexdigest() for v in every]
        return digests[header.path][header.frame_index or 0]

    return digest


def _stored_in_file(header: SliceHeader, limits: Limits) -> Iterator[VoxelArray]:
    """Yield the stored values of every slice of the file of ``header``."""
    if header.frame_index is None:
        yield _Reader(limits).read(header)
        return
    with untrusted("undecodable_pixels"):
        for image in _images(header, limits):
            yield _decoded(image, header)


def _takes_long(header: SliceHeader) -> bool:
    """Return whether decoding takes longer than to hand the slice to a thread and back."""
    syntax = header.pixels.syntax
    return syntax.is_encapsulated and syntax != RLELossless


class _Reader:
    """Reads the slices of a stack; threads may share it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = Lock()
        self._path = Path()
        self._images: _Images = []
        """Of the last file that holds several slices."""

    def read(self, header: SliceHeader) -> StoredPixels:
        """Return the stored values of a slice."""
        pixels = header.pixels
        with untrusted("undecodable_pixels"):
            stored = _read_plain(header) if pixels.plain else _read_compressed(header)
            if stored is None:
                stored = _decoded(self._images_of(header)[header.frame_index or 0], header)
            if stored.shape != (pixels.rows, pixels.columns):
                raise reject("undecodable_pixels")
        return StoredPixels(stored)

    def _images_of(self, header: SliceHeader) -> _Images:
        with self._lock:
            if header.path != self._path:
                self._images = _images(header, self._limits)
                self._path = header.path
            return self._images


def _read_plain(header: SliceHeader) -> VoxelArray | None:
    """Return the values of a slice that lie where its header pass found them."""
    if header.pixels_start is None:
        return None
    stored = np.empty(header.pixels.image_shape, header.pixels.plain)
    return stored if read_plain(header, stored) else None


def _read_compressed(header: SliceHeader) -> VoxelArray | None:
    """Return the values of a slice with a file of its own, whose stream lies where it was found."""
    if header.pixels_start is None or not header.pixels.syntax.is_encapsulated:
        return None
    with header.path.open("rb", buffering=0) as file:
        file.seek(header.pixels_start - _HEAD_BYTES)
        head = file.read(_HEAD_BYTES)
        if not (head.startswith(_PIXEL_DATA) and head.endswith(_OPEN_LENGTH)):
            return None
        stream = b"".join(fragments(file.read(), delimited=True))
    return decode(stream, header.pixels)


def _images(header: SliceHeader, limits: Limits) -> _Images:
    """Return the images of the file of ``header``, or the slices of the mosaic it is."""
    with open_dicom(header.path, limits) as stream:
        dataset = read_dataset(stream, terms.PIXEL_TAGS, pixels=True)
    images: _Images
    count = int(dataset.get("NumberOfFrames") or 1)
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        fragments(dataset.PixelData, delimited=False)
        streams = generate_frames(dataset.PixelData, number_of_frames=count)
        images = list(islice(streams, count))
    else:
        array = pixel_array(dataset)
        images = array.reshape(-1, *array.shape[-2:])
    if len(images) < count:
        raise reject("undecodable_pixels")
    across = header.pixels.tiles_across
    return images if across == 1 else cut(_decoded(images[0], header), across)


def _decoded(image: bytes | VoxelArray, header: SliceHeader) -> VoxelArray:
    """Return the stored values of an image, sign and unused bits resolved.

    In native byte order: a copy of a slice has the same bytes, however it was encoded.
    """
    if isinstance(image, bytes):
        return decode(image, header.pixels)
    return image.astype(image.dtype.newbyteorder("="), copy=False)
