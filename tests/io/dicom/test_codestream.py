import struct

import pytest
from pydicom.encaps import generate_frames
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from medssl.errors import RejectedFileError
from medssl.io.dicom.codestream import announced, fragments
from tests import phantoms
from tests.io.dicom import streams

AFFINE = phantoms.affine_ras()
DELIMITER = b"\xfe\xff\xdd\xe0\0\0\0\0"
SHAPE = (36, 40)


def boxed(stream):
    """Return a JPEG 2000 stream as a JP2 file: a box before it, and a box around it."""
    signature = struct.pack(">L4sL", 12, b"jP  ", 0x0D0A870A)
    return signature + struct.pack(">L4s", 8 + len(stream), b"jp2c") + stream


@pytest.mark.parametrize("syntax", [*streams.LOSSLESS, *streams.LOSSY], ids=str)
def test_what_a_stream_announces(syntax):
    bits = 12 if syntax.name.startswith("JPEG") else 16
    stream = streams.encoded(syntax, streams.smooth(SHAPE, bits), bits)
    expected = None if syntax == RLELossless else (*SHAPE, 1, bits)
    assert announced(stream) == expected


def test_a_stream_in_a_jp2_file_announces_the_same():
    stream = streams.encoded(JPEG2000Lossless, streams.smooth(SHAPE, 12), 12)
    assert announced(boxed(stream)) == announced(stream) == (*SHAPE, 1, 12)
    assert announced(boxed(b"")) is None


def test_other_streams_announce_nothing():
    assert announced(b"") is None
    assert announced(b"\xff\xd8\xff\xd9") is None
    assert announced(b"\xff\x4f\xff\x51") is None
    assert announced(bytes(100)) is None


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless], ids=str)
def test_fragments_are_there_to_their_last_byte(syntax):
    (ds, *_) = phantoms.dicom_slices(phantoms.phantom(AFFINE, (40, 36, 1)), AFFINE)
    ds.compress(syntax, generate_instance_uid=False)
    content = ds.PixelData
    whole = list(generate_frames(content, number_of_frames=1))
    assert fragments(content, delimited=False) == whole
    assert fragments(content + DELIMITER + b"more", delimited=True) == whole
    cut = [content[:stop] for stop in range(1, len(content), 7)]
    for some, delimited in [(content, True), *((c, d) for c in cut for d in (True, False))]:
        with pytest.raises(RejectedFileError) as caught:
            fragments(some, delimited=delimited)
        assert caught.value.code == "truncated_pixel_data"
