"""Small files that unpack to gigabytes, by name: refused with a reason, in little memory."""

import json
import struct
import subprocess
import sys
import zipfile
import zlib

import pytest
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless

from medssl.library.outcomes import read_outcomes
from tests import bad_files, phantoms

AFFINE = phantoms.affine_ras()
MOST_MIB, MOST_SECONDS = 1024, 30
MIB = 2**20

PROGRAM = """
import json, re, resource, sys
from medssl.ingest.ingest import IngestConfig, ingest
from medssl.runs.tracking import TrackingConfig

if __name__ == "__main__":
    source, library, key = sys.argv[1:]
    ingest(IngestConfig(sources=(source,), library=library, key_file=key, create_key=True,
        max_volume_mib=512, tracking=TrackingConfig(enabled=False)))
    own = re.search("VmHWM:\\s+(\\d+)", open("/proc/self/status").read())
    peaks = [int(own[1]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]
    print(json.dumps({"peak_mib": max(peaks) / 1024}))
"""


def zeros_deflated(gib):
    """Return a deflate stream of so many GiB of zeros, made of one piece repeated."""
    engine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    engine.compress(bytes(MIB))
    engine.flush(zlib.Z_FULL_FLUSH)
    piece = engine.compress(bytes(MIB)) + engine.flush(zlib.Z_FULL_FLUSH)
    return piece * round(gib * 1024)


def deflated_dicom(folder):
    """Header and pixels small, then an element whose value inflates to 2.9 GiB."""
    path, *others = phantoms.write_dicom(
        folder,
        phantoms.phantom(AFFINE),
        AFFINE,
        edit=lambda ds, _: setattr(
            ds.file_meta, "TransferSyntaxUID", DeflatedExplicitVRLittleEndian
        ),
    )
    for other in others:
        other.unlink()
    content = path.read_bytes()
    start = 144 + dcmread(path, stop_before_pixels=True).file_meta.FileMetaInformationGroupLength
    plain = zlib.decompress(content[start:], -zlib.MAX_WBITS)
    pixels = plain.index(b"\xe0\x7f\x10\x00")
    engine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = plain[:pixels] + b"\xe0\x7f\x10\x00OW\0\0" + struct.pack("<L", 2**32 - 2)
    bomb = engine.compress(head) + engine.flush(zlib.Z_FULL_FLUSH) + zeros_deflated(2.9) + b"\3\0"
    path.write_bytes(content[:start] + bomb)
    assert len(bomb) < 4 * MIB
    return {"decompression_bomb"}


def packed(content, gib):
    """Return ``content`` and so many GiB of zeros as one gzip stream; its checksum is wrong."""
    engine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = engine.compress(content) + engine.flush(zlib.Z_FULL_FLUSH)
    start = bytes([0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 2, 255])
    return start + head + zeros_deflated(gib) + b"\3\0" + bytes(8)


def honest_nifti(folder):
    """8 GiB of zeros, and a header that says so."""
    content = bytearray(bad_files.nifti_bytes()[:352])
    struct.pack_into("<8h", content, 40, 3, 2048, 2048, 1024, 1, 1, 1, 1)
    (folder / "honest.nii.gz").write_bytes(packed(bytes(content), 8))
    return {"too_large"}


def lying_nifti(folder):
    """A small volume in the header, and 8 GiB of zeros after it."""
    (folder / "lying.nii.gz").write_bytes(packed(bad_files.nifti_bytes(), 8))
    return {"decompression_bomb"}


def vast_slice(folder):
    """65535 x 65535 pixels in the header, 4 kB of pixel data."""

    def edit(ds, _):
        ds.Rows = ds.Columns = 65535
        ds.PixelData = bytes(4096)

    phantoms.write_dicom(folder, phantoms.phantom(AFFINE), AFFINE, edit=edit)
    return {"pixel_length_mismatch", "too_large"}


def vast_codestream(folder):
    """A small slice in the header, 60000 x 60000 in the JPEG 2000 stream."""
    paths = phantoms.write_dicom(
        folder,
        phantoms.phantom(AFFINE, (40, 36, 5)),
        AFFINE,
        edit=lambda ds, _: ds.compress(JPEG2000Lossless, generate_instance_uid=False),
    )
    for path in paths:
        content = bytearray(path.read_bytes())
        at = content.index(b"\xff\x4f\xff\x51")
        struct.pack_into(">LL", content, at + 8, 60000, 60000)
        path.write_bytes(content)
    return {"undecodable_pixels"}


def zip_of_zeros(folder):
    """A member of 3 GiB in an archive of 3 MB."""
    path = folder / "zeros.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
        archive.open("scan/zeros.dcm", "w", force_zip64=True) as member,
    ):
        for _ in range(3 * 1024):
            member.write(bytes(MIB))
    return {"decompression_bomb"}


@pytest.mark.parametrize(
    "build",
    [deflated_dicom, honest_nifti, lying_nifti, vast_slice, vast_codestream, zip_of_zeros],
)
def test_bomb(build, tmp_path):
    folder, library = tmp_path / "scans", tmp_path / "library"
    folder.mkdir()
    expected = build(folder)
    command = [sys.executable, "-c", PROGRAM, str(folder), str(library), str(tmp_path / "key")]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=MOST_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1])["peak_mib"] < MOST_MIB
    outcomes = read_outcomes(library)
    assert not (outcomes["outcome"] == "converted").any()
    assert set(outcomes["reason_code"]) & expected
