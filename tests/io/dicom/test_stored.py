"""Compressed slices: whichever way and by however many threads, the same values and reasons."""

import dataclasses
import threading
import time

import numpy as np
import pytest
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import EnhancedCTImageStorage, JPEG2000Lossless, JPEGLSLossless, RLELossless

from medssl.errors import RejectedFileError
from medssl.io.deidentify import Pseudonymizer
from medssl.io.dicom import stored
from medssl.io.dicom.headers import read_headers
from medssl.io.dicom.pixels import stack_pixels
from medssl.io.dicom.read import read_dicom_folder
from medssl.io.dicom.stored import digester, read_stored
from medssl.io.limits import Limits
from tests import phantoms
from tests.io.dicom import streams

AFFINE, SHAPE = phantoms.affine_ras(), (40, 36, 7)
ARRAY = phantoms.phantom(AFFINE, SHAPE)
KEY, LIMITS = Pseudonymizer.ephemeral(), Limits(least_slices=1)
SYNTAXES = [JPEG2000Lossless, JPEGLSLossless, RLELossless]


def compressed(syntax, edit=None):
    def pack(ds, k):
        ds.compress(syntax, generate_instance_uid=False)
        if edit:
            edit(ds, k)

    return phantoms.dicom_slices(ARRAY, AFFINE, edit=pack)


def headers_of(files, folder):
    """Return the headers of the slices in the order of their places."""
    paths = phantoms.save(files, folder)
    headers = [header for path in paths for header in read_headers(path, "k", KEY, LIMITS)]
    return sorted(headers, key=lambda header: header.plane.depth_mm)


def enhanced(syntax):
    ds = phantoms.enhanced(phantoms.dicom_slices(ARRAY, AFFINE), EnhancedCTImageStorage)
    ds.compress(syntax, generate_instance_uid=False)
    return ds


def code_of(headers, threads):
    with pytest.raises(RejectedFileError) as caught:
        stack_pixels(headers, LIMITS, threads)
    return caught.value.code


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_pixels_read_where_they_lie_are_those_pydicom_finds(syntax, tmp_path):
    headers = headers_of(compressed(syntax), tmp_path)
    assert all(header.pixels_start for header in headers)
    general = [dataclasses.replace(header, pixels_start=None) for header in headers]
    found = stack_pixels(headers, LIMITS).array_IJK
    np.testing.assert_array_equal(found, stack_pixels(general, LIMITS).array_IJK)
    np.testing.assert_array_equal(np.sort(found, axis=2), np.sort(ARRAY, axis=2))


@pytest.mark.parametrize("syntax", streams.LOSSLESS)
def test_every_lossless_compression_becomes_the_same_volume(syntax, tmp_path):
    def pack(ds, _):
        values = np.frombuffer(ds.PixelData, "<u2").reshape(ds.Rows, ds.Columns)
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 15, 0
        ds.PixelData = encapsulate([streams.encoded(syntax, values, 16)])
        ds.file_meta.TransferSyntaxUID = syntax

    phantoms.save(phantoms.dicom_slices(ARRAY, AFFINE, edit=pack), tmp_path)
    (found,) = read_dicom_folder(tmp_path)
    assert phantoms.value_error(found.volume.array_IJK, found.volume.affine_ras) == 0


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("framed", [False, True])
def test_the_volume_does_not_depend_on_the_number_of_threads(framed, syntax, threads, tmp_path):
    phantoms.save([enhanced(syntax)] if framed else compressed(syntax), tmp_path)
    (found,) = read_dicom_folder(tmp_path, threads=threads)
    assert found.volume.array_IJK.dtype == np.int16
    assert phantoms.value_error(found.volume.array_IJK, found.volume.affine_ras) == 0


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_nor_does_the_reason(threads, tmp_path):
    headers = headers_of(compressed(JPEGLSLossless), tmp_path)
    garbled = bytearray(headers[2].path.read_bytes())
    garbled[-60:-20] = bytes(40)
    headers[2].path.write_bytes(garbled)
    headers[4].path.unlink()
    for _ in range(5):
        assert code_of(headers, threads) == "undecodable_pixels"
        assert code_of(headers[::-1], threads) == "unreadable_file"


def test_no_more_slices_are_held_than_there_are_threads(tmp_path, monkeypatch):
    headers, decoded = headers_of(compressed(JPEGLSLossless), tmp_path), []
    original = stored.decode
    monkeypatch.setattr(stored, "decode", lambda *a: decoded.append(1) or original(*a))
    for taken, _ in enumerate(read_stored(headers, LIMITS, 2)):
        time.sleep(0.01)
        assert len(decoded) <= taken + 1 + 2
    assert len(decoded) == len(headers)


def test_slices_are_decoded_at_once(tmp_path, monkeypatch):
    headers, together = headers_of(compressed(JPEGLSLossless), tmp_path)[:2], threading.Barrier(2)
    original = stored.decode

    def meet(*arguments):
        together.wait(30)
        return original(*arguments)

    monkeypatch.setattr(stored, "decode", meet)
    assert len(list(read_stored(headers, LIMITS, 2))) == 2


def test_slices_that_are_read_at_once_need_no_thread(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "ThreadPoolExecutor", lambda _: pytest.fail("a thread"))
    for number, slices in enumerate(
        [compressed(RLELossless), phantoms.dicom_slices(ARRAY, AFFINE)]
    ):
        headers = headers_of(slices, tmp_path / f"{number}")
        assert len(list(read_stored(headers, LIMITS, 2))) == SHAPE[2]


def test_a_stack_given_up_leaves_no_thread(tmp_path):
    headers, before = headers_of(compressed(JPEGLSLossless), tmp_path), threading.active_count()
    slices = read_stored(headers, LIMITS, 2)
    next(slices)
    slices.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("threads", [1, 3])
def test_a_file_of_many_frames_is_read_once(threads, tmp_path, monkeypatch):
    headers, reads = headers_of([enhanced(JPEGLSLossless)], tmp_path), []
    original = stored.open_dicom
    monkeypatch.setattr(stored, "open_dicom", lambda *a: reads.append(1) or original(*a))
    assert len(list(read_stored(headers, LIMITS, threads))) == SHAPE[2]
    assert len(reads) == 1
    digest = digester(LIMITS)
    assert len({digest(header) for header in headers}) == SHAPE[2]
    assert len(reads) == 2


def test_a_damaged_frame_harms_the_stack_it_is_in(tmp_path):
    ds = enhanced(JPEGLSLossless)
    frames = list(generate_frames(ds.PixelData, number_of_frames=SHAPE[2]))
    frames[2] = frames[2][: len(frames[2]) // 2]
    ds.PixelData = encapsulate(frames)
    headers = headers_of([ds], tmp_path)
    assert code_of(headers, 1) == "undecodable_pixels"
    rest = [header for header in headers if header.frame_index != 2]
    assert stack_pixels(rest, LIMITS).array_IJK.shape == (40, 36, 6)


def test_fewer_frames_than_announced(tmp_path):
    ds = enhanced(JPEGLSLossless)
    frames = list(generate_frames(ds.PixelData, number_of_frames=SHAPE[2]))
    ds.PixelData = encapsulate(frames[:-1])
    headers = headers_of([ds], tmp_path)
    assert code_of(headers, 2) == "undecodable_pixels"
    with pytest.raises(RejectedFileError):
        digester(LIMITS)(headers[-1])


def test_a_delimiter_among_the_pixels_ends_nothing(tmp_path):
    """It is looked for between fragments, not among their bytes, as pydicom does."""

    def edit(ds, _):
        values = np.frombuffer(ds.PixelData, "<u2").copy()
        values[:4] = [0xFE, 0xFF, 0xDD, 0xE0]
        ds.PixelData = values.tobytes()
        ds.compress(RLELossless, generate_instance_uid=False)
        assert b"\xfe\xff\xdd\xe0" in ds.PixelData

    slices = phantoms.dicom_slices(ARRAY, AFFINE, edit=edit)
    phantoms.save(slices, tmp_path)
    (found,) = read_dicom_folder(tmp_path)
    expected = np.array([0xFE, 0xFF, 0xDD, 0xE0]) - 1024
    np.testing.assert_array_equal(found.volume.array_IJK[:4, 0, 0], expected)
    assert len(set(map(digester(LIMITS), found.slices))) == SHAPE[2]


def test_compressed_pixels_that_moved_since_their_header_was_read_are_found(tmp_path):
    headers = headers_of(compressed(RLELossless), tmp_path)
    expected = stack_pixels(headers, LIMITS).array_IJK
    content = headers[0].path.read_bytes()
    moved = content.replace(b"Phantom^Analytic", b"Phantom^A").replace(b"PN\x10\0", b"PN\x09\0")
    assert len(moved) < len(content)
    headers[0].path.write_bytes(moved)
    np.testing.assert_array_equal(stack_pixels(headers, LIMITS).array_IJK, expected)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("missing", [1, 8, 9, 40])
def test_a_file_cut_short_is_told_from_a_damaged_one(missing, syntax, tmp_path):
    headers = headers_of(compressed(syntax), tmp_path)
    content = headers[2].path.read_bytes()
    headers[2].path.write_bytes(content[:-missing])
    assert code_of(headers, 2) == "truncated_pixel_data"


def test_a_stream_in_several_fragments(tmp_path):
    def split(ds, _):
        (stream,) = generate_frames(ds.PixelData, number_of_frames=1)
        ds.PixelData = encapsulate([stream], fragments_per_frame=3)

    phantoms.save(compressed(JPEG2000Lossless, split), tmp_path)
    (found,) = read_dicom_folder(tmp_path)
    assert phantoms.value_error(found.volume.array_IJK, found.volume.affine_ras) == 0
