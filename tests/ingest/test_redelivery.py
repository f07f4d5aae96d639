"""A series that comes again, in whole or in part, after its first files are gone."""

import shutil

import pytest

from medssl.ingest.ingest import ingest
from medssl.library.catalog import read_catalog
from medssl.library.outcomes import read_outcomes
from medssl.library.volumes import volume_path
from tests import phantoms

AFFINE = phantoms.affine_ras()
SHAPE = (7, 6, 12)


@pytest.fixture
def slices():
    return phantoms.dicom_slices(phantoms.phantom(AFFINE, SHAPE), AFFINE)


def volume_of(library):
    """Return the one volume, which must be whole and on disk."""
    (row,) = read_catalog(library).to_dict(orient="records")
    assert row["shape_k"] == SHAPE[2]
    assert volume_path(library, row["volume_key"]).is_file()
    return row["volume_key"]


@pytest.mark.parametrize("count", [1, 5, 11])
def test_a_part_does_not_replace_the_whole_that_is_gone(count, slices, tmp_path, configure):
    phantoms.save(slices, tmp_path / "monday")
    library = ingest(configure(tmp_path / "monday")).folder
    before = volume_of(library)
    shutil.rmtree(tmp_path / "monday")
    phantoms.save(slices[:count], tmp_path / "stray", seed=1)
    phantoms.save(slices[:1], tmp_path / "stray", seed=2)  # a copy is no further slice
    result = ingest(configure(tmp_path / "stray"))
    assert volume_of(library) == before
    files = read_outcomes(library)
    new = files[files["reason_code"] == "incomplete_redelivery"]
    assert set(new["outcome"]) == {"quarantined"}
    assert len(new) == result.summary["reason.incomplete_redelivery"] == count + 1
    assert all("of which 12 file(s) cannot be found now" in text for text in new["reason"])
    assert result.summary["converted"] == 12
    # It stays so when something else arrives, and the whole series mends it.
    (tmp_path / "stray" / "notes.txt").write_text("a text")
    ingest(configure(tmp_path / "stray"))
    assert volume_of(library) == before
    phantoms.save(slices, tmp_path / "friday", seed=3)
    result = ingest(configure(tmp_path / "stray", tmp_path / "friday"))
    assert volume_of(library) == before
    assert "reason.incomplete_redelivery" not in result.summary


def test_the_whole_series_under_another_name_replaces_it(slices, tmp_path, configure):
    phantoms.save(slices, tmp_path / "monday")
    library = ingest(configure(tmp_path / "monday")).folder
    before = volume_of(library)
    (tmp_path / "monday").rename(tmp_path / "tuesday")
    result = ingest(configure(tmp_path / "tuesday"))
    assert volume_of(library) == before
    assert result.summary["quarantined"] == result.summary["skipped"] == 0
    files = read_outcomes(library)
    assert set(files["volume_key"]) == {before}
    assert len(files) == result.summary["converted"] == 12


def test_files_taken_out_of_the_folder_do_not_take_the_volume_along(slices, tmp_path, configure):
    paths = phantoms.save(slices, tmp_path / "monday")
    library = ingest(configure(tmp_path / "monday")).folder
    before = volume_of(library)
    for path in paths[4:]:
        path.unlink()
    result = ingest(configure(tmp_path / "monday"))
    assert volume_of(library) == before
    assert result.summary["converted"] == 12


def test_a_file_that_is_there_and_left_out_on_purpose_is_not_gone(slices, tmp_path, configure):
    *_, last = phantoms.save(slices, tmp_path / "monday")
    library = ingest(configure(tmp_path / "monday")).folder
    volume_of(library)
    result = ingest(configure(tmp_path / "monday", exclude=(f"*{last.name}",)))
    assert result.summary["reason.excluded"] == 1
    assert "reason.incomplete_redelivery" not in result.summary
    files = read_outcomes(library).set_index("reason_code")
    assert files.loc["excluded", "volume_key"] == ""
