"""Siemens mosaics as analytic phantoms: tile k holds F at the place of slice k."""

import math
import struct

import numpy as np
from pydicom.uid import generate_uid
from pydicom.valuerep import format_number_as_ds

from tests import phantoms

CREATOR = "SIEMENS CSA HEADER"
SPACING_MM = (1.5, 2.0, 3.0)


def csa_header(count, normal_LPS, **more):
    """Return a CSA header (SV10) as the scanners write it, with items that stay empty."""
    tags = {
        "EchoLinePosition": ["32"],
        "NumberOfImagesInMosaic": [str(count)],
        "SliceNormalVector": [f"{value:.8f}" for value in normal_LPS],
        **more,
    }
    content = b"SV10" + b"\4\3\2\1" + struct.pack("<2I", len(tags), 77)
    for name, items in tags.items():
        content += struct.pack("<64si4s3i", name.encode(), len(items), b"IS", 6, 6, 77)
        for text in [*items, *[""] * (6 - len(items))]:
            value = text.encode() + b"\0" if text else b""
            content += struct.pack("<4i", len(value), len(value), 77, len(value))
            content += value + bytes(-len(value) % 4)
    return content


def turned(affine, *, against):
    """Return the grid with its slices in the other order where ``against`` row x column."""
    steps_lps = np.diag([-1.0, -1.0, 1.0]) @ affine[:3, :3]
    sense = np.sign(np.cross(steps_lps[:, 0], steps_lps[:, 1]) @ steps_lps[:, 2])
    turn = np.diag([1, 1, -sense if against else sense, 1.0])
    return affine @ turn


def mosaic(array_IJK, affine, *, number=1, edit=None):
    """Return a volume as one mosaic, whose tiles follow each other as the affine's slices do."""
    columns, rows, count = array_IJK.shape
    across = math.isqrt(count - 1) + 1
    image = np.zeros((across * rows, across * columns), array_IJK.dtype)
    for k in range(count):
        top, left = rows * (k // across), columns * (k % across)
        image[top : top + rows, left : left + columns] = array_IJK[:, :, k].T
    centre_shift = np.array([columns, rows, 0]) * (across - 1) / 2
    corner_ras = affine[:3, 3] - affine[:3, :3] @ centre_shift
    ds = phantoms.slice_dataset(number - 1, corner_ras * (-1, -1, 1), affine, image, modality="MR")
    step_lps = np.diag([-1.0, -1.0, 1.0]) @ affine[:3, 2]
    step_mm = float(np.linalg.norm(step_lps))
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    ds.Manufacturer = "SIEMENS"
    ds.SpacingBetweenSlices = format_number_as_ds(step_mm)
    ds.AcquisitionNumber = number
    ds.private_block(0x29, CREATOR, create=True).add_new(
        0x10, "OB", csa_header(count, step_lps / step_mm)
    )
    if edit is not None:
        edit(ds)
    return ds


def series(folder, affine, times=1, shape=phantoms.SHAPE, edit=None):
    """Write one mosaic per time point, of which time t shows F + t; return the paths."""
    study, uid, frame = generate_uid(), generate_uid(), generate_uid()
    files = []
    for time in range(times):
        ds = mosaic(phantoms.phantom(affine, shape) + time, affine, number=time + 1, edit=edit)
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, uid, frame
        files.append(ds)
    return phantoms.save(files, folder)
