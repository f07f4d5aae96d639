import hashlib
import struct

import pytest
from pydicom.encaps import generate_frames
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from medssl.errors import RejectedFileError
from medssl.io.deidentify import Pseudonymizer
from medssl.io.dicom.codestream import announced_size, is_complete
from medssl.io.dicom.headers import read_headers
from medssl.io.dicom.pixels import digester
from medssl.io.limits import Limits
from tests import phantoms

AFFINE = phantoms.affine_ras()


def compressed(syntax):
    (ds, *_) = phantoms.dicom_slices(phantoms.phantom(AFFINE, (40, 36, 1)), AFFINE)
    ds.compress(syntax, generate_instance_uid=False)
    return ds


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless], ids=str)
def test_the_size_a_stream_announces(syntax):
    ds = compressed(syntax)
    (frame,) = generate_frames(ds.PixelData, number_of_frames=1)
    assert announced_size(frame) == (ds.Rows, ds.Columns) == (36, 40)


def test_other_streams_announce_nothing():
    assert announced_size(b"") is None
    assert announced_size(b"\xff\xd8\xff\xd9") is None
    assert announced_size(b"\xff\x4f\xff\x51") is None
    assert announced_size(bytes(100)) is None


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless], ids=str)
def test_a_stream_is_complete_only_to_its_last_byte(syntax):
    content = compressed(syntax).PixelData
    assert is_complete(content)
    assert not any(is_complete(content[:stop]) for stop in range(1, len(content), 7))


def test_a_stream_that_boasts_is_not_decoded(tmp_path):
    ds = compressed(JPEG2000Lossless)
    start = ds.PixelData.index(b"\xff\x4f\xff\x51")
    boast = struct.pack(">2L", 10**6, 10**6)
    ds.PixelData = ds.PixelData[: start + 8] + boast + ds.PixelData[start + 16 :]
    (path,) = phantoms.save([ds], tmp_path)
    (header,) = read_headers(path, "x", Pseudonymizer.ephemeral(), Limits())
    with pytest.raises(RejectedFileError) as caught:
        digester(Limits())(header)
    assert caught.value.code == "undecodable_pixels"


def test_nine_transfer_syntaxes_decode_to_the_same_values(shared):
    folder = shared / "data" / "dicom-cases" / "nine-transfer-syntaxes"
    if not folder.is_dir():
        pytest.skip("the nine transfer syntaxes are not in 'shared'")
    key, limits = Pseudonymizer.ephemeral(), Limits()
    headers = [read_headers(path, path.name, key, limits)[0] for path in sorted(folder.iterdir())]
    assert len(headers) == 9
    assert len({header.pixels.syntax for header in headers}) == 7
    assert {header.defect for header in headers} == {None}
    (digest,) = {digester(limits)(header) for header in headers}
    pixels = headers[0].pixels
    assert digest != hashlib.sha256(bytes(2 * pixels.rows * pixels.columns)).hexdigest()
