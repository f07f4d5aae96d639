"""Files, folders, archives and addresses become scans, or rows with reasons."""

import tarfile
import zipfile

import numpy as np
import pytest

from medssl.errors import RejectedFileError
from medssl.inference.scans import ScanReader
from medssl.inference.series import Wanted
from medssl.inference.sources import digest_sources, find_sources
from medssl.io.limits import Limits
from medssl.io.nifti import write_nifti
from medssl.io.sources.opening import FetchSettings
from tests import bad_files
from tests.finetuned import affine, phantom
from tests.inference.studies import new_study, write_series
from tests.io.sources.archives import web_archive
from tests.io.sources.test_archive import tar_of, zip_of


@pytest.fixture
def room(tmp_path):
    folder = tmp_path / "room"
    folder.mkdir()
    return folder


def read(room, *inputs, modality="CT", limits=None, **settings):
    """Return the scans, and the errors, of all ``inputs``; nothing stays in ``room``."""
    fetch = FetchSettings.model_validate(settings)
    reader = ScanReader(
        wanted=Wanted(modality=modality), settings=fetch, limits=limits or Limits(), room=room
    )
    found = [one for source in find_sources(inputs, fetch) for one in reader.read(source)]
    assert list(room.iterdir()) == []
    errors = [one for one in found if isinstance(one, RejectedFileError)]
    return [one for one in found if not isinstance(one, RejectedFileError)], errors


def codes(errors):
    return [(error.code, error.skipped) for error in errors]


def zip_folder(path, folder):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
    return path


def test_slices_come_with_their_files_in_the_order_of_the_third_axis(room, tmp_path):
    paths = write_series(tmp_path / "a", new_study())
    ((scan,), errors) = read(room, tmp_path / "a")
    assert errors == []
    assert {header.path for header in scan.slices} == set(paths)
    depths = [header.plane.depth_mm for header in scan.slices]
    assert depths == sorted(depths)
    assert len(scan.slices) == scan.volume.shape[2]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_of_several_series_gives_the_right_one(room, tmp_path, kind):
    study = new_study()
    write_series(tmp_path / "study" / "ct", study)
    write_series(tmp_path / "study" / "mr", study, modality="MR")
    write_series(
        tmp_path / "study" / "scout", study, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]
    )
    (tmp_path / "study" / "readme.txt").write_text("hello")
    path = tmp_path / f"upload.{kind}"
    if kind == "zip":
        zip_folder(path, tmp_path / "study")
    else:
        with tarfile.open(path, "w:gz") as archive:
            archive.add(tmp_path / "study", "study")
    ((scan,), errors) = read(room, path)
    assert scan.volume.modality == "CT"
    assert scan.stem == "dicom_001"
    assert sorted(codes(errors)) == [
        ("localizer", True), ("not_dicom", True), ("other_modality", True),
    ]  # fmt: skip
    assert "6 times" in next(error for error in errors if error.code == "localizer").problem


def test_nifti_files_in_an_archive_keep_their_names(room, tmp_path):
    write_nifti(phantom(1)[0], affine(), tmp_path / "in" / "scan.nii.gz")
    ((scan,), errors) = read(room, zip_folder(tmp_path / "x.zip", tmp_path / "in"))
    assert (scan.stem, errors) == ("scan", [])
    assert np.array_equal(scan.volume.array_IJK, phantom(1)[0])


@pytest.mark.parametrize("make", [zip_of, tar_of])
def test_a_hostile_archive_writes_nothing_outside_and_the_rest_is_read(room, tmp_path, make):
    good = write_series(tmp_path / "good", new_study())
    members = [(path.name, path.read_bytes()) for path in good]
    members += [("../escaped", b"x"), ("/escaped", b"x"), ("inner.zip", b"PK")]
    before = sorted(tmp_path.rglob("*"))
    path = make(tmp_path / "upload.zip", members)
    ((scan,), errors) = read(room, path)
    assert scan.volume.shape == (24, 20, 6)
    assert sorted(codes(errors)) == [("nested_archive", False), ("unsafe_member", False)]
    assert sorted(set(tmp_path.rglob("*")) - {path}) == before


def test_links_and_bombs_are_refused(room, tmp_path):
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    assert codes(read(room, tar_of(tmp_path / "l.tar.gz", [(link, b"")]))[1]) == [
        ("unsafe_member", False)
    ]
    bomb = zip_of(tmp_path / "b.zip", [("zeros.nii", bytes(2**25))])
    assert codes(read(room, bomb)[1]) == [("decompression_bomb", False)]
    many = zip_of(tmp_path / "m.zip", [(str(n), b"") for n in range(5)])
    assert codes(read(room, many, archive={"most_members": 4})[1]) == [("too_many_members", False)]


def test_a_file_called_an_archive_that_is_none_says_so(room, tmp_path):
    (tmp_path / "x.zip").write_bytes(b"no archive")
    assert codes(read(room, tmp_path / "x.zip")[1]) == [("damaged_archive", False)]


def test_what_is_merely_left_out_is_a_refusal_where_nothing_remains(room, tmp_path):
    write_series(tmp_path / "a", new_study(), modality="MR")
    scans, (error,) = read(room, tmp_path / "a")
    assert (scans, error.code, error.skipped) == ([], "other_modality", False)
    assert "accept_other_modality" in error.problem


def test_missing_slices_are_said(room, tmp_path):
    bad_files.moved([0, 2, 4, 6, 10, 12, 14])(tmp_path / "a")
    scans, (error,) = read(room, tmp_path / "a")
    assert (scans, error.code, error.skipped) == ([], "missing_slices", False)
    assert "1 slice(s) missing among 7" in error.problem


def test_a_header_that_announces_ten_gigabytes_is_refused_before_it_is_read(room, tmp_path):
    huge = bad_files.phantoms.nifti_bytes(dim=[3, 2048, 2048, 1280, 1, 1, 1, 1])
    (tmp_path / "huge.nii").write_bytes(huge)
    scans, (error,) = read(room, tmp_path / "huge.nii")
    assert (scans, error.code) == ([], "too_large")
    assert "announces 10240 MiB" in error.problem


def test_a_file_of_several_volumes_is_no_scan_of_one_channel(room, tmp_path):
    array = np.zeros((4, 4, 4, 3), np.int16)
    (tmp_path / "many.nii").write_bytes(bad_files.phantoms.nifti_bytes(array, affine()))
    assert codes(read(room, tmp_path / "many.nii")[1]) == [("time_series", False)]


def test_a_series_of_an_archive_on_the_web_is_fetched_and_dropped(room, tmp_path):
    slices = bad_files.slices()
    with web_archive(slices) as served:
        ((scan,), errors) = read(room, served.url, query={"Modality": "CT"})
        first = find_sources([served.url])
        served.count -= 1
        assert digest_sources(first) != digest_sources(find_sources([served.url]))
    assert errors == []
    assert len(scan.slices) == len(slices)
    assert scan.stem == "dicom_001"


def test_an_archive_that_does_not_answer_is_a_row(room):
    quick = {"patience": {"tries": 1, "first_wait_s": 0.001, "timeout_s": 1}}
    scans, (error,) = read(room, "dicomweb+http://127.0.0.1:9/dicom-web", dicomweb=quick)
    assert (scans, error.code, error.skipped) == ([], "not_fetched", False)


def test_more_than_may_lie_here_is_refused(room):
    with web_archive(bad_files.slices()) as served:
        scans, (error,) = read(room, served.url, staging_gib=1e-9)
    assert (scans, error.code) == ([], "too_much")
