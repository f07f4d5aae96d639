import dataclasses
import hashlib
import struct
import warnings
from contextlib import suppress
from pathlib import Path

import data_store
import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.encaps import generate_frames

from medssl.errors import InputError, RejectedFileError
from medssl.io.deidentify import Pseudonymizer
from medssl.io.dicom import decoders
from medssl.io.dicom.decoders import PACKAGES, decodable, decode, installed
from medssl.io.dicom.headers import read_headers
from medssl.io.dicom.read import read_dicom_folder
from medssl.io.dicom.slices import PixelFormat
from medssl.io.dicom.stored import digester
from medssl.io.dicom.stream import has_preamble
from medssl.io.limits import Limits
from medssl.io.untrusted import untrusted
from tests import phantoms
from tests.io.dicom import streams

AFFINE = phantoms.affine_ras()
SHAPE = (61, 67)
ALL = [(syntax, package) for syntax, packages in PACKAGES.items() for package in packages]
LOSSLESS = [(syntax, package) for syntax, package in ALL if syntax in streams.LOSSLESS]


def pixel_format(syntax, bits, *, shape=SHAPE, signed=False, allocated=None):
    return PixelFormat(
        rows=shape[0],
        columns=shape[1],
        bits=bits,
        bits_allocated=allocated or (8 if bits <= 8 else 16),
        signed=signed,
        syntax=syntax,
        slope=1,
        intercept=0,
        rescale_type="",
        padding=None,
        inverted=False,
    )


@pytest.fixture
def only(monkeypatch):
    """Return a function that leaves one package installed."""
    return lambda package: monkeypatch.setattr(decoders, "installed", lambda _: [package])


def bits_of(syntax):
    return 8 if syntax == uid.JPEGBaseline8Bit else 12


def attempt(stream, pixels):
    """Return the pixels, or None where the stream was refused."""
    with suppress(RejectedFileError), untrusted("undecodable_pixels"):
        return decode(stream, pixels)


def test_all_packages_are_installed():
    assert {syntax: tuple(installed(syntax)) for syntax in PACKAGES} == PACKAGES
    assert all(map(decodable, PACKAGES))


@pytest.mark.parametrize(("syntax", "package"), LOSSLESS)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("bits", "allocated"), [(8, 8), (7, 8), (12, 16), (16, 16)])
def test_every_decoder_returns_what_was_stored(syntax, package, signed, bits, allocated, only):
    if syntax.keyword.startswith("HTJ2K") and bits % 8:
        return  # the encoder writes whole bytes only
    if package == "python-gdcm" and bits == 7:
        return  # it ends the process: reached only where imagecodecs refuses the stream
    only(package)
    shift, dtype = 8 * (allocated // 8) - bits, f"{'ui'[signed]}{allocated // 8}"
    values = np.random.default_rng(bits).integers(0, 2**bits, SHAPE).astype(f"u{allocated // 8}")
    expected = (values << shift).view(dtype) >> shift
    found = decode(streams.encoded(syntax, values, bits), pixel_format(syntax, bits, signed=signed))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "syntax", [uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.RLELossless]
)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_where_header_and_stream_disagree_decoders_agree(syntax, signed, bits):
    for values, coded_bits, allocated in coded(syntax):
        if bits > allocated:
            continue
        stream = streams.encoded(syntax, values, coded_bits)
        pixels = pixel_format(syntax, bits, signed=signed, allocated=allocated)
        found = decode(stream, pixels)
        plugin = decoders._PLUGINS[PACKAGES[syntax][1]]
        expected = decoders._decode_by_pydicom(stream, pixels, plugin)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def coded(syntax):
    """Yield noise as it may be coded, with its bits in the stream and those in the header."""
    for bits, allocated in [(8, 8), (8, 16), (12, 16), (16, 16)]:
        noise = np.random.default_rng(0).integers(0, 2**bits, SHAPE)
        kind = f"{1 if bits == 8 else 2}"
        if syntax != uid.RLELossless or bits == allocated:
            yield noise.astype(f"u{kind}"), bits, allocated
        if syntax == uid.JPEG2000Lossless:
            yield (noise - 2 ** (bits - 1)).astype(f"i{kind}"), bits, allocated


@pytest.mark.parametrize(
    ("syntax", "error"),
    [
        (uid.JPEGBaseline8Bit, 5),
        (uid.JPEGExtended12Bit, 30),
        (uid.JPEGLSNearLossless, 1),
        (uid.JPEG2000, 30),
        (uid.HTJ2K, 30),
    ],
)
def test_lossy_streams_are_close_and_decoders_agree(syntax, error, monkeypatch):
    bits = bits_of(syntax)
    values = streams.smooth(SHAPE, bits)
    stream, found = streams.encoded(syntax, values, bits), []
    for package in PACKAGES[syntax]:
        monkeypatch.setattr(decoders, "installed", lambda _, package=package: [package])
        found.append(decode(stream, pixel_format(syntax, bits)))
    assert np.abs(found[0].astype(int) - values).max() <= error
    assert all(np.array_equal(found[0], other) for other in found)


@pytest.mark.parametrize(("syntax", "package"), ALL)
def test_a_stream_that_is_cut_short_is_refused_and_not_filled_up(syntax, package, only):
    only(package)
    bits = bits_of(syntax)
    stream = streams.encoded(syntax, streams.smooth(SHAPE, bits), bits)
    pixels = pixel_format(syntax, bits)
    assert attempt(stream, pixels) is not None
    for stop in np.linspace(len(stream) // 8, len(stream) - 4, 40).astype(int):
        assert attempt(stream[:stop], pixels) is None


@pytest.mark.parametrize(("syntax", "package"), ALL)
def test_a_garbled_stream_is_refused_or_has_the_size_of_its_image(syntax, package, only):
    only(package)
    bits, rng = bits_of(syntax), np.random.default_rng(1)
    stream = streams.encoded(syntax, streams.smooth(SHAPE, bits), bits)
    for _ in range(60):
        at, length = int(rng.integers(8, len(stream) - 8)), int(rng.integers(1, 8))
        replaced = rng.bytes(length * int(rng.integers(2)))
        found = attempt(stream[:at] + replaced + stream[at + length :], pixel_format(syntax, bits))
        assert found is None or found.shape == SHAPE


@pytest.mark.parametrize("syntax", [s for s, packages in PACKAGES.items() if len(packages) > 1])
def test_where_the_quickest_decoder_fails_another_reads_it(syntax, monkeypatch):
    bits = bits_of(syntax)
    stream = streams.encoded(syntax, streams.smooth(SHAPE, bits), bits)
    expected = decode(stream, pixel_format(syntax, bits))

    def fail(*_):
        raise RuntimeError("a bug of the decoder")

    for name in ("jpeg8", "jpegls", "jpeg2k", "dicomrle"):
        monkeypatch.setattr(imagecodecs, f"{name}_decode", fail)
    np.testing.assert_array_equal(decode(stream, pixel_format(syntax, bits)), expected)


@pytest.mark.parametrize(
    "syntax", [s for s in PACKAGES if s not in (uid.RLELossless, uid.JPEGBaseline8Bit)]
)
@pytest.mark.parametrize(
    "claim",
    [{"shape": (SHAPE[0], SHAPE[1] + 1)}, {"shape": (SHAPE[1], SHAPE[0])}, {"allocated": 8}],
)
def test_a_stream_of_other_pixels_than_the_header_says_is_not_decoded(syntax, claim, monkeypatch):
    stream = streams.encoded(syntax, streams.smooth(SHAPE, 12), 12)
    monkeypatch.setattr(decoders, "decode_image", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(RejectedFileError) as caught:
        decode(stream, pixel_format(syntax, 12, **claim))
    assert caught.value.code == "undecodable_pixels"


@pytest.mark.parametrize("jp2", [False, True])
@pytest.mark.parametrize(
    ("at", "boast"), [(8, struct.pack(">2L", 10**6, 10**6)), (40, struct.pack(">H", 16384))]
)
def test_a_stream_that_boasts_is_not_decoded(jp2, at, boast, tmp_path):
    (ds, *_) = phantoms.dicom_slices(phantoms.phantom(AFFINE, (40, 36, 1)), AFFINE)
    ds.compress(uid.JPEG2000Lossless, generate_instance_uid=False)
    (stream,) = generate_frames(ds.PixelData, number_of_frames=1)
    stream = stream[:at] + boast + stream[at + len(boast) :]
    if jp2:
        stream = struct.pack(">L4sLL4s", 12, b"jP  ", 0x0D0A870A, 0, b"jp2c") + stream
    ds.PixelData = pydicom.encaps.encapsulate([stream])
    (path,) = phantoms.save([ds], tmp_path)
    (header,) = read_headers(path, "x", Pseudonymizer.ephemeral(), Limits())
    with pytest.raises(RejectedFileError) as caught:
        digester(Limits())(header)
    assert caught.value.code == "undecodable_pixels"


def foreign_files(shared):
    folders = [Path(pydicom.__file__).parent / "data", Path(data_store.__file__).parent]
    for folder in [*folders, shared / "data" / "dicom-cases"]:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and has_preamble(path):
                yield path


def test_files_of_many_makers_decode_to_what_pydicom_makes_of_them(shared):
    """With every package of its own, save those that fail."""
    compared = 0
    for path in foreign_files(shared):
        with warnings.catch_warnings(action="ignore"):
            try:
                ds = pydicom.dcmread(path)
                syntax, pixels = ds.file_meta.TransferSyntaxUID, ds.PixelData
            except Exception:  # noqa: BLE001, S112  some are broken on purpose
                continue
            if syntax not in PACKAGES or ds.SamplesPerPixel != 1:
                continue
            layout = dataclasses.replace(
                pixel_format(syntax, ds.BitsStored, shape=(ds.Rows, ds.Columns)),
                bits_allocated=ds.BitsAllocated,
                signed=bool(ds.PixelRepresentation),
            )
            frame = next(generate_frames(pixels, number_of_frames=ds.get("NumberOfFrames", 1)))
            found = attempt(frame, layout)
            for plugin in ("gdcm", "pylibjpeg", "pyjpegls", "pillow", "pydicom"):
                try:
                    other = pydicom.pixels.pixel_array(ds, index=0, decoding_plugin=plugin)
                except Exception:  # noqa: BLE001, S112
                    continue
                assert found is not None, path.name
                assert found.dtype == other.dtype
                np.testing.assert_array_equal(found, other, err_msg=path.name)
                compared += 1
    assert compared > 100


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


# What is said where nothing reads it


def refusal(folder, syntax):
    """Return why a series that claims to be in ``syntax`` is not read."""

    def claim(ds, _):
        ds.compress(uid.RLELossless)
        ds.file_meta.TransferSyntaxUID = syntax

    slices = phantoms.dicom_slices(phantoms.phantom(AFFINE), AFFINE, edit=claim)
    phantoms.save(slices, folder, implicit_vr=False, little_endian=True)
    with pytest.raises(InputError, match="unsupported_transfer_syntax") as caught:
        read_dicom_folder(folder)
    return str(caught.value)


@pytest.mark.parametrize(
    ("syntax", "packages"),
    [
        (uid.JPEG2000Lossless, "imagecodecs or pylibjpeg with pylibjpeg-openjpeg"),
        (uid.JPEGExtended12Bit, "imagecodecs"),
        (uid.JPEGLSNearLossless, "imagecodecs or pyjpegls"),
        (uid.JPEGLosslessSV1, "imagecodecs or python-gdcm"),
        (uid.RLELossless, "imagecodecs or pylibjpeg with pylibjpeg-rle"),
    ],
)
def test_without_a_decoder_the_reason_names_the_package(syntax, packages, tmp_path, monkeypatch):
    monkeypatch.setattr(decoders, "installed", lambda _: [])
    assert not decodable(syntax)
    said = refusal(tmp_path, syntax)
    assert syntax.name in said
    assert f"Install {packages}, then ingest again." in said


@pytest.mark.parametrize("syntax", [uid.MPEG2MPML, uid.HEVCMP51])
def test_where_there_is_no_decoder_the_reason_says_so(syntax, tmp_path):
    assert "decompress the files elsewhere" in refusal(tmp_path, syntax)


def test_a_transfer_syntax_that_is_none_is_not_repeated(tmp_path):
    said = refusal(tmp_path, uid.UID("1.2.826.0.1.19450506.7"))
    assert "19450506" not in said
    assert "a private transfer syntax" in said


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian])
def test_uncompressed_pixels_need_no_decoder(syntax, monkeypatch):
    monkeypatch.setattr(decoders, "installed", lambda _: [])
    assert decodable(syntax)
