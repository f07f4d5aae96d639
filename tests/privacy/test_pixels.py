"""No word survives among pixels, wherever a codec or a header leaves room for one."""

import io
import re

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from medssl.errors import RejectedFileError
from medssl.privacy.pixels import encapsulated, native
from tests import phantoms

TEXT = b"by Dr. Redpoll"
COMMENT = b"\xff\xfe" + (len(TEXT) + 2).to_bytes(2, "big") + TEXT
J2K_COMMENT = b"\xff\x64" + (len(TEXT) + 4).to_bytes(2, "big") + b"\0\1" + TEXT


@pytest.fixture(scope="module")
def ds():
    affine = phantoms.affine_ras()
    return phantoms.dicom_slices(phantoms.phantom(affine, (64, 64, 1)), affine)[0]


def frame(ds, syntax):
    packed = pydicom.dcmread(_saved(ds))
    packed.compress(syntax, generate_instance_uid=False)
    return next(generate_frames(packed.PixelData, number_of_frames=1))


def _saved(ds):
    stream = io.BytesIO()
    ds.save_as(stream, enforce_file_format=True)
    stream.seek(0)
    return stream


def progressive():
    """Return a JPEG of several scans, as decoders may get them."""
    image = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", progressive=True)
    return stream.getvalue()


def before_last_scan(content):
    at = [found.start() for found in re.finditer(rb"\xff\xc4", content)][-1]
    return content[:at] + COMMENT + content[at:]


def in_tile_header(content):
    at = content.index(b"\xff\x93")
    return content[:at] + J2K_COMMENT + content[at:]


def in_main_header(content):
    end = 4 + int.from_bytes(content[4:6], "big")
    return content[:end] + J2K_COMMENT + content[end:]


def after_start(content):
    return content[:2] + COMMENT + content[2:]


CASES = {
    "between the scans of a JPEG": lambda ds: before_last_scan(progressive()),
    "at the start of a JPEG-LS": lambda ds: after_start(frame(ds, JPEGLSLossless)),
    "in the header of a tile": lambda ds: in_tile_header(frame(ds, JPEG2000Lossless)),
    "in the main header": lambda ds: in_main_header(frame(ds, JPEG2000Lossless)),
    "after the end": lambda ds: frame(ds, JPEGLSLossless) + TEXT,
}


def encapsulated_in(content, size):
    """Return ``content`` as one frame in fragments of ``size`` bytes."""
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    pieces = [piece + b"\0" * (len(piece) % 2) for piece in pieces]
    items = b"".join(b"\xfe\xff\x00\xe0" + len(p).to_bytes(4, "little") + p for p in pieces)
    return b"\xfe\xff\x00\xe0" + bytes(4) + items


@pytest.mark.parametrize("size", [10**6, 64, 6])
@pytest.mark.parametrize("case", CASES)
def test_a_comment_is_blanked_and_nothing_else_changes(case, size, ds):
    content = CASES[case](ds)
    value = encapsulated_in(content, size)
    clean = encapsulated(value, coded=True)
    assert len(clean) == len(value)
    joined = next(generate_frames(clean, number_of_frames=1))
    assert TEXT in content
    words = re.compile(TEXT + rb"|Created by OpenJPEG version [0-9.]+")
    expected = words.sub(lambda found: b" " * len(found[0]), content)
    assert joined.rstrip(b"\0 ") == expected.rstrip(b"\0 ")


def test_frames_stay_apart(ds):
    content = frame(ds, JPEGLSLossless)
    frames = [after_start(content), content, content + TEXT]
    clean = encapsulated(encapsulate(frames), coded=True)
    found = list(generate_frames(clean, number_of_frames=3))
    assert [len(f) // 2 for f in found] == [(len(f) + 1) // 2 for f in frames]
    assert TEXT not in clean
    assert found[1].startswith(content.rstrip(b"\0"))


def test_run_lengths_are_kept_as_they_are(ds):
    value = encapsulate([frame(ds, RLELossless)])
    assert encapsulated(value, coded=False) == value


@pytest.mark.parametrize(
    "content",
    [
        b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(20) + TEXT,  # JPEG 2000 in its boxes
        b"\xff\xd8\xff\xc0\0\x01" + bytes(20) + TEXT,
        b"\xff\xd8" + TEXT,
    ],
)
def test_what_cannot_be_followed_is_refused(content):
    with pytest.raises(RejectedFileError, match="not known here"):
        encapsulated(encapsulate([content]), coded=True)


def test_pixels_that_do_not_fill_the_lowest_bits_are_refused(ds):
    odd = pydicom.dcmread(_saved(ds))
    odd.BitsStored, odd.HighBit = 12, 15
    with pytest.raises(RejectedFileError, match="lowest bits"):
        native(odd, little_endian=True)
