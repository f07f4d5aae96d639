"""The stage: from folders, archives and picture archives to files that name nobody."""

import shutil
import zipfile
from functools import partial

import pydicom
import pytest

from medssl.errors import FolderError, InputError
from medssl.io.sources.base import SourceError
from medssl.io.sources.staging import Staging
from medssl.privacy import writing
from medssl.privacy.writing import write_one
from tests import canaries, phantoms
from tests.io.sources.archives import web_archive
from tests.privacy.scans import COUNT, head, leaks, rows


def test_there_are_37_plants_and_a_raw_search_finds_each_in_the_source(source):
    assert len(canaries.PLANTED) == 37
    found = {text for _, text in leaks(source)}
    assert found == canaries.everything()


def test_nothing_planted_is_written_anywhere(source, clean):
    result, files = clean(source)
    assert result.summary["written"] == len(files) == COUNT
    private = result.folder / "private"
    assert {path.name for path in private.iterdir()} == {"config.yaml"}
    shutil.rmtree(private)  # holds the path of the source, for its owner only
    assert leaks(result.folder) == []


def test_the_same_key_gives_the_same_files_and_two_keys_share_nothing(source, clean):
    _, one = clean(source, out="one")
    _, same = clean(source, out="same")
    _, other = clean(source, out="other", key="key2")
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in same]
    assert [p.parts[-4:] for p in one] == [p.parts[-4:] for p in same]
    words = [
        {str(e.value) for p in paths for e in pydicom.dcmread(p).iterall() if e.VR in {"UI", "PN"}}
        for paths in (one, other)
    ]
    shared = (words[0] & words[1]) - {""}
    common = {word for word in shared if not word.startswith("1.2.840.10008.")}
    assert common == set()


def test_one_bad_file_stops_nothing_and_every_file_is_accounted_for(source, clean):
    folder = source / canaries.FOLDER
    (folder / "notes.txt").write_text("Quillfeather")
    whole = next(folder.glob("*.dcm")).read_bytes()
    (folder / "cut.dcm").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.dcm").touch()
    result, files = clean(source)
    table = rows(result)
    assert len(table) == result.summary["files"] == COUNT + 3
    counted = [result.summary[kind] for kind in ("written", "skipped", "quarantined")]
    assert sum(counted) == len(table)
    assert len(files) == COUNT
    assert all(bool(row["name"]) != bool(row["reason"]) for row in table)


def test_a_later_run_adds_what_is_new_and_removes_what_is_now_refused(source, clean):
    _, files = clean(source)
    before = [path.stat().st_mtime_ns for path in files]
    more = phantoms.affine_ras(origin=(0, 0, 500))
    phantoms.write_dicom(
        source / "more",
        phantoms.phantom(more),
        more,
        edit=lambda ds, _: setattr(ds, "BodyPartExamined", "LUNG"),
    )
    result, now = clean(source)
    assert result.summary["written"] == len(now) == COUNT + 5
    assert [path.stat().st_mtime_ns for path in files] == before
    canaries.write(source, edit=lambda ds, _: setattr(ds, "BurnedInAnnotation", "YES"))
    result, now = clean(source)
    assert result.summary["reason.burned_in_risk"] == COUNT
    assert len(now) == 5


def test_another_key_is_refused_in_the_same_folder(source, clean):
    clean(source)
    with pytest.raises(FolderError, match="another key"):
        clean(source, key="key2")


@pytest.fixture
def zipped(source):
    """Return a zip of the source, with members that are refused, and the source gone."""
    path = source.parent / "WINTERBOTTOM.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(source.rglob("*.dcm")):
            archive.write(file, file.relative_to(source))
        archive.writestr("../Quillfeather.dcm", b"x")
        archive.writestr("Quillfeather.txt", b"x")
        archive.writestr("inner.zip", b"x")
    shutil.rmtree(source)
    return path


def test_an_archive_gives_what_its_folder_gives(source, clean, zipped):
    canaries.write(source)
    result, files = clean(zipped)
    assert len(files) == result.summary["written"] == COUNT
    reasons = {row["reason_code"] for row in rows(result)}
    assert reasons == {"", "unsafe_member", "not_dicom", "nested_archive"}
    assert list((result.folder / "private" / "incoming").iterdir()) == []
    for private in ("config.yaml", "parcels.jsonl"):
        (result.folder / "private" / private).unlink()
    assert leaks(result.folder) == []
    assert clean(zipped)[0].skipped


def test_an_archive_in_a_folder_is_unpacked_once(source, clean, zipped, monkeypatch):
    fetched = []
    fetch = Staging.fetch
    monkeypatch.setattr(Staging, "fetch", lambda *args: fetched.append(args) or fetch(*args))
    clean(zipped.parent / zipped.name, out="alone")
    source.mkdir()
    shutil.move(zipped, source)
    result, files = clean(source)
    (source / "notes.txt").write_text("a new file")
    again, _ = clean(source)
    assert again.summary["files"] == result.summary["files"] + 1
    assert len(fetched) == 2
    files[0].unlink()
    (source / "notes.txt").unlink()
    assert clean(source)[1] == files
    assert len(fetched) == 3


def test_a_run_killed_over_an_archive_goes_on_where_it_stopped(clean, zipped, monkeypatch):
    calls = []

    def dies(rules, folder, job):
        calls.append(job)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return write_one(rules, folder, job)

    monkeypatch.setattr(writing, "write_one", dies)
    with pytest.raises(KeyboardInterrupt):
        clean(zipped)
    result, files = clean(zipped)
    assert len(files) == result.summary["written"] == COUNT
    assert len(calls) == COUNT + 2  # one of them a text, one twice
    assert list((result.folder / "private" / "incoming").iterdir()) == []


def test_a_bomb_is_a_row_under_the_limits_of_archives(clean, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(17 * 2**20))
    result, _ = clean(tmp_path / "a.zip")
    assert result.summary["reason.decompression_bomb"] == 1


def test_a_picture_archive_gives_what_a_folder_gives(tmp_path, clean):
    affine = phantoms.affine_ras()
    slices = phantoms.dicom_slices(
        phantoms.phantom(affine),
        affine,
        edit=lambda ds, _: setattr(ds, "BodyPartExamined", "CHEST"),
    )
    with web_archive(slices) as served:
        patience = {"tries": 1, "timeout_s": 5}
        ask = partial(clean, served.url, dicomweb={"patience": patience})
        served.count += 1
        with pytest.raises(SourceError, match="1 of 1 parcels did not arrive"):
            ask()
        served.count -= 1
        result, files = ask()
        assert len(files) == result.summary["written"] == len(slices)
        assert ask()[0].skipped


def test_who_waits_for_others_to_send_is_told_what_to_do(clean):
    with pytest.raises(InputError, match=r"(?s)ingest --follow.*storescp"):
        clean("scp://MEDSSL@0.0.0.0:11112")


@pytest.mark.parametrize(("part", "written"), [("HEAD", 0), ("NECK", 0), ("", 0), ("CHEST", COUNT)])
def test_what_may_show_a_face_is_refused(tmp_path, clean, part, written):
    head(tmp_path / "in", part)
    result, files = clean(tmp_path / "in")
    assert len(files) == written
    assert result.summary.get("reason.face_in_view", 0) == COUNT - written
    _, allowed = clean(tmp_path / "in", out="allowed", allow_faces=True)
    assert len(allowed) == COUNT


def test_an_upright_image_of_the_chest_that_reaches_the_chin_may_show_a_face(tmp_path, clean):
    """Coronal slices, 600 mm long."""
    affine = phantoms.affine_ras(degrees=(-90, 0, 0), spacing_mm=(1.0, 100.0, 3.0))
    phantoms.write_dicom(
        tmp_path / "in",
        phantoms.phantom(affine),
        affine,
        edit=lambda ds, _: setattr(ds, "BodyPartExamined", "CHEST"),
    )
    result, files = clean(tmp_path / "in")
    assert files == []
    assert result.summary["reason.face_in_view"] == 5
