"""Archives and stores through the whole ingest: fetched, converted, noted, deleted."""

import shutil
import tarfile
import zipfile

import fsspec
import pytest

from medssl.ingest import batches
from medssl.ingest.explain import explain
from medssl.ingest.ingest import ingest
from medssl.io.sources.archive import ArchiveSource
from medssl.io.sources.base import SourceError
from medssl.library.catalog import catalog_digest, read_catalog
from medssl.library.outcomes import read_outcomes
from tests import phantoms

AFFINE = phantoms.affine_ras((12, -7, 4))
ARRAY = phantoms.phantom(AFFINE, (7, 6, 8))


def zipped(path, folder, names=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file() and (names is None or file.name in names):
                archive.write(file, file.relative_to(folder))
    return path


@pytest.fixture
def scans(tmp_path):
    folder = tmp_path / "scans"
    phantoms.write_dicom(folder / "one", ARRAY, AFFINE)
    phantoms.write_nifti(folder / "sub-01" / "ct.nii.gz", ARRAY, AFFINE)
    (folder / "notes.txt").write_text("a text")
    return folder


def left_behind(library):
    return [path for path in (library / "incoming").rglob("*") if path.is_file()]


def fetches(monkeypatch):
    done = []
    fetch = ArchiveSource.fetch

    def counted(self, parcel, folder):
        done.append(parcel.name)
        return fetch(self, parcel, folder)

    monkeypatch.setattr(ArchiveSource, "fetch", counted)
    return done


def test_an_archive_gives_what_its_folder_gives(scans, tmp_path, configure):
    plain = ingest(configure(scans, library="plain"))
    path = zipped(tmp_path / "in" / "scans.zip", scans)
    with tarfile.open(tmp_path / "in" / "scans.tar.gz", "w:gz") as tar:
        tar.add(scans, "top")
    for source in (path, tmp_path / "in" / "scans.tar.gz"):
        result = ingest(configure(source, library=source.name))
        assert result.summary == plain.summary
        assert left_behind(result.folder) == []
        columns = ["voxel_digest", "file_digest", "study_key", "shape_k"]
        dicom = [
            read_catalog(r.folder).query("source_format == 'dicom'")[columns].to_dict("records")
            for r in (plain, result)
        ]
        dicom[0][0].pop("study_key"), dicom[1][0].pop("study_key")
        assert dicom[0] == dicom[1]


def test_an_archive_in_a_folder_is_opened_and_noted_as_done(
    scans, tmp_path, configure, monkeypatch
):
    done = fetches(monkeypatch)
    zipped(scans / "deep" / "more.zip", scans / "one")
    config = configure(scans)
    first = ingest(config)
    assert done == ["deep/more.zip!"]
    assert first.summary["files"] == 8 + 8 + 2
    assert first.summary["reason.duplicate_slice"] == 8
    assert ingest(config).skipped
    (scans / "another.txt").write_text("x")
    again = ingest(config)
    assert again.summary["files"] == 19
    assert done == ["deep/more.zip!"]
    name = next(p.name for p in (scans / "one").iterdir())
    member = f"{scans}/deep/more.zip!/{name}"
    assert "duplicate_slice" in explain(config.library, member, config.key_file) or (
        "converted" in explain(config.library, member, config.key_file)
    )


def test_refused_members_and_damaged_archives_are_rows(scans, tmp_path, configure):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("../escape", b"x")
        archive.writestr("inner.zip", b"x")
        archive.write(scans / "sub-01" / "ct.nii.gz", "sub-01/ct.nii.gz")
    (tmp_path / "b.zip").write_bytes(b"no zip")
    config = configure(tmp_path / "a.zip", tmp_path / "b.zip")
    result = ingest(config)
    assert result.summary["files"] == 4
    assert result.summary["converted"] == 1
    codes = set(read_outcomes(result.folder)["reason_code"])
    assert codes == {"", "unsafe_member", "nested_archive", "damaged_archive"}
    assert "damaged_archive" in explain(result.folder, tmp_path / "b.zip", config.key_file)
    text = explain(result.folder, f"{tmp_path}/a.zip!/inner.zip", config.key_file)
    assert "nested_archive" in text


def test_a_series_in_two_archives_becomes_whole_in_one_run_and_in_two(tmp_path, configure):
    paths = phantoms.save(phantoms.dicom_slices(ARRAY, AFFINE), tmp_path / "s")
    names = [path.name for path in paths]
    one = zipped(tmp_path / "in" / "1.zip", tmp_path / "s", names[:3])
    two = zipped(tmp_path / "in" / "2.zip", tmp_path / "s", names[3:])
    for number, options in enumerate([{}, {"staging_gib": 1e-9}]):
        result = ingest(configure(one, two, library=f"once{number}", **options))
        assert read_catalog(result.folder)["shape_k"].tolist() == [8]
        assert result.summary["converted"] == 8
        assert left_behind(result.folder) == []
    ingest(configure(one, library="twice"))
    result = ingest(configure(one, two, library="twice"))
    assert read_catalog(result.folder)["shape_k"].tolist() == [8]
    assert result.summary["converted"] == result.summary["files"] == 8


@pytest.mark.parametrize("runs", [1, 2])
def test_the_same_study_sent_twice_with_one_more_series(runs, tmp_path, configure):
    study = tmp_path / "study"
    phantoms.write_dicom(study / "a", ARRAY, AFFINE)
    first = zipped(tmp_path / "in" / "1.zip", study)
    phantoms.write_dicom(study / "b", ARRAY, AFFINE, modality="MR", seed=1)
    second = zipped(tmp_path / "in" / "2.zip", study)
    if runs == 2:
        ingest(configure(first))
    result = ingest(configure(first, second))
    assert result.summary["volumes"] == 2
    assert result.summary["files"] == 24
    assert result.summary["converted"] == 16
    assert result.summary["reason.duplicate_slice"] == 8


@pytest.mark.parametrize("runs", [1, 2])
def test_two_patients_in_one_series_of_two_archives_are_both_refused(runs, tmp_path, configure):
    slices = phantoms.dicom_slices(ARRAY, AFFINE)
    phantoms.save(slices[:4], tmp_path / "a")
    for ds in slices[4:]:
        ds.PatientID = "another"
    phantoms.save(slices[4:], tmp_path / "b")
    one = zipped(tmp_path / "in" / "1.zip", tmp_path / "a")
    two = zipped(tmp_path / "in" / "2.zip", tmp_path / "b")
    if runs == 2:
        assert ingest(configure(one)).summary["volumes"] == 1
    result = ingest(configure(one, two))
    assert result.summary["volumes"] == 0
    assert result.summary["reason.patient_conflict"] == 8


def test_a_parcel_that_fails_is_counted_and_tried_again(scans, tmp_path, configure, monkeypatch):
    zipped(tmp_path / "in" / "bad.zip", scans / "one")
    zipped(tmp_path / "in" / "good.zip", scans / "sub-01")
    fetch = ArchiveSource.fetch

    def fail(self, parcel, folder):
        if parcel.name == "bad.zip!":
            raise SourceError("the line is dead")
        return fetch(self, parcel, folder)

    config = configure(tmp_path / "in")
    monkeypatch.setattr(ArchiveSource, "fetch", fail)
    for _ in range(2):
        summary = ingest(config).summary
        assert (summary["parcels_failed"], summary["volumes"]) == (1, 1)
    monkeypatch.setattr(ArchiveSource, "fetch", fetch)
    summary = ingest(config).summary
    assert "parcels_failed" not in summary
    assert summary["volumes"] == 2
    assert ingest(config).skipped


def test_a_run_that_dies_after_any_step_is_finished_by_the_next(
    scans, tmp_path, configure, monkeypatch
):
    path = zipped(tmp_path / "in" / "scans.zip", scans)
    whole = configure(path, library="whole")
    ingest(whole)
    steps = [("_convert", batches.Filling), ("note", batches.Ledger), ("drop", batches.Staging)]
    config = configure(path)
    for name, owner in steps:
        with monkeypatch.context() as patch:

            def die(*_):
                raise KeyboardInterrupt

            patch.setattr(owner, name, die)
            with pytest.raises(KeyboardInterrupt):
                ingest(config)
        if name != "drop":
            continue
    result = ingest(config)
    assert catalog_digest(result.folder) == catalog_digest(whole.library)
    assert left_behind(result.folder) == []
    assert result.summary["files"] == 10


@pytest.fixture
def store(scans):
    store = fsspec.filesystem("memory")
    for file in scans.rglob("*"):
        if file.is_file():
            store.pipe(f"/bucket/{file.relative_to(scans).as_posix()}", file.read_bytes())
    yield store
    store.rm("/bucket", recursive=True)


def test_a_store_gives_what_a_folder_gives(store, scans, tmp_path, configure):
    plain = ingest(configure(scans, library="plain"))
    zipped(tmp_path / "more.zip", scans / "one")
    config = configure("memory://bucket")
    result = ingest(config)
    assert result.summary == plain.summary
    assert ingest(config).skipped
    store.pipe("/bucket/deep/more.zip", (tmp_path / "more.zip").read_bytes())
    summary = ingest(config).summary
    assert (summary["files"], summary["volumes"]) == (18, 2)
    name = next(p.name for p in (scans / "one").iterdir())
    assert "memory://bucket" not in (config.library / "manifest.json").read_text()
    explain(config.library, f"memory://bucket/deep/more.zip!/{name}", config.key_file)


def test_a_store_that_breaks_off_is_asked_again(store, configure, monkeypatch):
    config = configure("memory://bucket", remote={"tries": 2, "first_wait_s": 0})
    opened = []
    open_ = type(store).open

    def broken(self, path, *args, **options):
        opened.append(path)
        if len(opened) % 2:
            raise ConnectionError("secret text")
        return open_(self, path, *args, **options)

    monkeypatch.setattr(type(store), "open", broken)
    assert "parcels_failed" not in ingest(config).summary


def test_a_full_disk_stops_with_words(scans, tmp_path, configure, monkeypatch):
    from medssl.errors import FolderError

    path = zipped(tmp_path / "in" / "scans.zip", scans)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ArchiveSource, "fetch", full)
        with pytest.raises(FolderError, match="is full"):
            ingest(configure(path))
    assert ingest(configure(path)).summary["volumes"] == 2
    shutil.rmtree(tmp_path / "in")
