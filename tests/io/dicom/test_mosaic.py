"""Mosaics: every tile becomes the slice it shows, at its place; what cannot be told is refused."""

import struct
import subprocess
import tracemalloc

import dcm2niix
import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medssl.errors import InputError, RejectedFileError
from medssl.io.deidentify import Pseudonymizer
from medssl.io.dicom.csa import numbers_of
from medssl.io.dicom.headers import read_headers
from medssl.io.dicom.read import read_dicom_folder
from medssl.io.limits import Limits
from tests import mosaics, phantoms

NAMES = frozenset({"NumberOfImagesInMosaic", "SliceNormalVector"})
AXIAL = phantoms.affine_ras()
OBLIQUE = phantoms.affine_ras(degrees=(20.0, -35.0, 10.0))


def headers(path):
    return read_headers(path, "file", Pseudonymizer.ephemeral(), Limits())


def refused(path):
    with pytest.raises(RejectedFileError) as caught:
        headers(path)
    return caught.value.code


@pytest.mark.parametrize("against", [False, True], ids=["F>>H", "H>>F"])
@pytest.mark.parametrize("affine", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
@pytest.mark.parametrize("slices", [4, 5, 9, 10])
def test_every_voxel_lies_where_its_value_says(affine, against, slices, tmp_path):
    grid = mosaics.turned(affine, against=against)
    mosaics.series(tmp_path, grid, shape=(7, 6, slices))
    (found,) = read_dicom_folder(tmp_path)
    assert found.volume.shape == (7, 6, slices)
    assert found.volume.intensity == "arbitrary"
    assert phantoms.value_error(found.volume.array_IJK, found.volume.affine_ras) < 1
    sources = [source.frame_index for source in found.volume.slices]
    assert sources == list(range(slices))[:: -1 if against else 1]


def test_a_series_of_mosaics_is_a_volume_per_time(tmp_path):
    mosaics.series(tmp_path, OBLIQUE, times=4)
    found = read_dicom_folder(tmp_path)
    assert [one.split_by for one in found] != []
    times = [int(one.split_by[0].split("=")[1]) for one in found]
    assert sorted(times) == [1, 2, 3, 4]
    for time, one in zip(times, found, strict=True):
        assert len(one.files) == 1
        shown = one.volume.array_IJK - (time - 1)
        assert phantoms.value_error(shown, one.volume.affine_ras) < 1


def test_times_without_a_label_come_in_the_order_of_their_numbers(tmp_path):
    mosaics.series(tmp_path, AXIAL, times=3, edit=lambda ds: delattr(ds, "AcquisitionNumber"))
    found = {one.split_by: one for one in read_dicom_folder(tmp_path)}
    assert sorted(found) == [("order=1",), ("order=2",), ("order=3",)]
    lowest = [found[f"order={time}",].volume.array_IJK.min() for time in (1, 2, 3)]
    assert np.diff(lowest).tolist() == [1, 1]


def _without_csa(ds):
    del ds[0x29, 0x1010]


def _with_csa(content):
    def edit(ds):
        ds[0x29, 0x1010].value = content

    return edit


def _with(**values):
    def edit(ds):
        for keyword, value in values.items():
            setattr(ds, keyword, value)

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        _without_csa,
        lambda ds: delattr(ds, "SpacingBetweenSlices"),
        lambda ds: delattr(ds, "ImagePositionPatient"),
        _with(SpacingBetweenSlices="0"),
        _with(SpacingBetweenSlices="-3"),
        _with(PixelSpacing=None),
        _with_csa(b""),
        _with_csa(b"SV10"),
        _with_csa(mosaics.csa_header(0, (0, 0, 1))),
        _with_csa(mosaics.csa_header(2.5, (0, 0, 1))),
        _with_csa(mosaics.csa_header("many", (0, 0, 1))),
        _with_csa(mosaics.csa_header("1e300", (0, 0, 1))),
        _with_csa(mosaics.csa_header(17, (0, 0, 1))),
        _with_csa(mosaics.csa_header(5, (0, 0, 0))),
        _with_csa(mosaics.csa_header(5, (1, 0, 0))),
        _with_csa(mosaics.csa_header(5, (0, 0.6, 0.8))),
        _with_csa(mosaics.csa_header(5, (0, 0, float("nan")))),
        _with_csa(mosaics.csa_header(5, (0, 1))),
        _with_csa(mosaics.csa_header(5, (0, 0, 1))[:-40]),
    ],
)
def test_a_mosaic_that_does_not_tell_all_is_refused(edit, tmp_path):
    (path,) = mosaics.series(tmp_path, AXIAL, edit=edit)
    assert refused(path) == "mosaic_unsupported"


def test_a_mosaic_cut_short_is_no_volume(tmp_path):
    (path,) = mosaics.series(tmp_path, AXIAL)
    path.write_bytes(path.read_bytes()[:-100])
    assert {header.defect for header in headers(path)} == {"truncated_pixel_data"}
    with pytest.raises(InputError, match="truncated_pixel_data"):
        read_dicom_folder(tmp_path)


def test_lengths_that_lead_backwards_are_not_followed():
    tag = struct.pack("<64si4s3i", b"NumberOfImagesInMosaic", 1, b"IS", 6, 1000, 77)
    items = (
        struct.pack("<4i", 0, 60_000, 0, 0) + bytes(60_000) + struct.pack("<4i", 0, -60_000, 0, 0)
    )
    content = b"SV10" + bytes(4) + struct.pack("<2I", 1000, 77) + tag + items
    tracemalloc.start()
    with pytest.raises(ValueError, match="leads out"):
        numbers_of(content, NAMES)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * len(content)


@given(st.binary(max_size=600), st.integers(0, 400), st.binary(max_size=8))
def test_any_bytes_are_numbers_or_refused(tail, at, patch):
    whole = bytearray(mosaics.csa_header(5, (0, 0, 1)))
    whole[at : at + len(patch)] = patch
    for content in (bytes(whole), b"SV10" + tail):
        try:
            found = numbers_of(content, NAMES)
        except ValueError:
            continue
        assert set(found) == NAMES


@pytest.mark.parametrize(
    ("folder", "times"),
    [
        *((f"ge-siemens-mr/20180918Si/mr_000{number}", 2) for number in (3, 4, 5, 6)),
        ("decubitus-right/3_ep2d_diff_mddw_20_p2", 13),
        ("enhanced/XA10", 4),
        ("d2n/siemens_multiframe/anatomical/001", 1),
    ],
)
def test_real_mosaics_and_frames_lie_where_dcm2niix_puts_them(folder, times, shared, tmp_path):
    """Compared voxel by voxel in world space, all time points."""
    source = shared / "data" / "dicom-cases" / folder
    if not source.is_dir():
        pytest.skip(f"{folder} is not in 'shared'")
    subprocess.run([dcm2niix.bin, "-z", "n", "-o", tmp_path, source], check=True)
    (path,) = tmp_path.glob("*.nii")
    image = nib.load(path)
    voxels = np.asarray(image.dataobj).reshape(*image.shape[:3], -1)
    found = read_dicom_folder(source)
    assert len(found) == voxels.shape[3] == times
    for one in found:
        time = int(one.split_by[0].split("=")[1]) - 1 if times > 1 else 0
        moved = np.linalg.inv(image.affine) @ one.volume.affine_ras
        index = phantoms.points_mm(moved, one.volume.shape)
        places = np.rint(index).astype(int)
        assert np.abs(index - places).max() < 1e-3
        expected = voxels[(*np.moveaxis(places, -1, 0), time)]
        np.testing.assert_array_equal(one.volume.array_IJK, expected)
