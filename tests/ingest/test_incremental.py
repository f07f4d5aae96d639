"""A library that grows: only what is new is read, and nothing that was there is lost."""

import shutil

import pyarrow.parquet as pq
import pytest

from medssl.ingest import look
from medssl.ingest.ingest import ingest
from medssl.library.catalog import catalog_digest, read_catalog
from medssl.library.outcomes import read_outcomes
from medssl.library.slices import read_slice_table
from medssl.library.volumes import read_slices, read_volume, volume_path
from tests import phantoms

AFFINE = phantoms.affine_ras()
SHAPE = (7, 6, 12)


@pytest.fixture
def slices():
    return phantoms.dicom_slices(phantoms.phantom(AFFINE, SHAPE), AFFINE)


@pytest.fixture
def opened(monkeypatch):
    """The files whose content was looked at."""
    names = []
    identify = look.identify

    def noted(path):
        names.append(path.name)
        return identify(path)

    monkeypatch.setattr(look, "identify", noted)
    return names


def test_only_new_files_and_those_of_their_series_are_opened(slices, tmp_path, configure, opened):
    for number in range(5):
        phantoms.write_dicom(tmp_path / "in" / str(number), phantoms.phantom(AFFINE), AFFINE)
    phantoms.save(slices[:8], tmp_path / "in" / "grows")
    (tmp_path / "in" / "notes.txt").write_text("x")
    config = configure(tmp_path / "in")
    first = ingest(config)
    assert len(opened) == first.summary["files"] == 34
    opened.clear()
    phantoms.write_nifti(tmp_path / "in" / "new.nii", phantoms.phantom(AFFINE), AFFINE)
    ingest(config)
    assert opened == ["new.nii"]
    opened.clear()
    more = phantoms.save(slices[8:], tmp_path / "in" / "grows", seed=5)
    result = ingest(config)
    assert len(opened) == 12
    assert opened[:4] == sorted(path.name for path in more) or set(opened) > {p.name for p in more}
    assert sorted(read_catalog(result.folder)["shape_k"]) == [5, 5, 5, 5, 5, 5, 12]
    opened.clear()
    ingest(configure(tmp_path / "in", exclude=("*.txt",)))
    assert len(opened) == 39 - 1 - 0


def test_a_run_after_a_kill_reads_no_header_of_what_is_journalled(
    slices, tmp_path, configure, opened
):
    phantoms.save(slices, tmp_path / "in" / "a")
    phantoms.write_nifti(tmp_path / "in" / "v.nii", phantoms.phantom(AFFINE), AFFINE)
    config = configure(tmp_path / "in")
    ingest(config)
    before = catalog_digest(config.library)
    for name in ("files.parquet", "catalog.parquet", "manifest.json", "slices.parquet"):
        (config.library / name).unlink()
    opened.clear()
    ingest(config)
    assert opened == []
    assert catalog_digest(config.library) == before
    assert len(read_slice_table(config.library)) == 12 + 5


def test_another_part_of_as_many_slices_does_not_replace_what_is_gone(slices, tmp_path, configure):
    phantoms.save(slices[:6], tmp_path / "monday")
    library = ingest(configure(tmp_path / "monday")).folder
    before = catalog_digest(library)
    shutil.rmtree(tmp_path / "monday")
    phantoms.save(slices[6:], tmp_path / "tuesday", seed=1)
    result = ingest(configure(tmp_path / "tuesday"))
    assert catalog_digest(library) == before
    assert result.summary["reason.incomplete_redelivery"] == 6
    assert result.summary["converted"] == 6


@pytest.mark.parametrize("count", [12, 5])
def test_files_of_a_reused_name_do_not_drop_the_series_before(count, slices, tmp_path, configure):
    names = phantoms.save(slices, tmp_path / "in")
    config = configure(tmp_path / "in")
    ingest(config)
    old = read_catalog(config.library)["volume_key"][0]
    other = phantoms.dicom_slices(phantoms.phantom(AFFINE, (7, 6, count)) + 1, AFFINE)
    for path, ds in zip(names, other, strict=False):
        ds.save_as(path, enforce_file_format=True)
    result = ingest(config)
    assert result.summary["volumes"] == 2
    assert result.summary["files"] == result.summary["converted"] == 12
    assert result.summary["series_kept_without_files"] == 1
    assert old in set(read_catalog(config.library)["volume_key"])
    files = read_outcomes(config.library)
    assert (files["volume_key"] != old).sum() == count
    read_volume(config.library, old)
    (tmp_path / "in" / "notes.txt").write_text("x")
    assert ingest(config).summary["volumes"] == 2


def test_repair_converts_again_only_what_is_damaged(slices, tmp_path, configure):
    phantoms.save(slices, tmp_path / "in")
    phantoms.write_nifti(tmp_path / "in" / "v.nii", phantoms.phantom(AFFINE), AFFINE)
    config = configure(tmp_path / "in")
    ingest(config)
    damaged, whole = read_catalog(config.library)["volume_key"]
    path = volume_path(config.library, damaged)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    before = volume_path(config.library, whole).stat().st_mtime_ns
    repair = config.model_copy(update={"repair": True})
    assert not ingest(repair).skipped
    assert path.read_bytes() == content
    assert volume_path(config.library, whole).stat().st_mtime_ns == before
    path.unlink()
    assert not ingest(config).skipped
    assert path.read_bytes() == content
    assert ingest(config).skipped
    assert ingest(repair).skipped


def test_a_file_that_could_not_be_read_is_tried_again(slices, tmp_path, configure, monkeypatch):
    phantoms.save(slices, tmp_path / "in")
    config = configure(tmp_path / "in")
    with monkeypatch.context() as patch:

        def fail(path):
            raise OSError(5, "Input/output error")

        patch.setattr("medssl.ingest.convert.digest_file", fail)
        assert ingest(config).summary["reason.unreadable_file"] == 12
    assert ingest(config).summary["converted"] == 12


def test_slices_are_told_by_file(slices, tmp_path, configure):
    phantoms.save(slices, tmp_path / "in")
    result = ingest(configure(tmp_path / "in"))
    table = read_slice_table(result.folder)
    (key,) = table["volume_key"].unique()
    sources = read_slices(result.folder, key).sources
    assert table["index"].tolist() == list(range(12))
    assert table["file_key"].tolist() == [source.file_key for source in sources]
    assert set(table["file_key"]) == set(read_outcomes(result.folder)["file_key"])
    assert pq.read_schema(result.folder / "slices.parquet").names[0] == "volume_key"


def test_a_run_over_a_finished_archive_opens_no_file(slices, tmp_path, configure, opened):
    """What that saves, ``pipelines/benchmarks/ingest_speed.py`` measures."""
    phantoms.save(slices, tmp_path / "in")
    config = configure(tmp_path / "in")
    ingest(config)
    assert opened
    opened.clear()
    assert ingest(config).skipped
    assert not opened
