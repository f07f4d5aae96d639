"""The page of an ingest: every count, every reason, pictures, and no name."""

import base64
import io
import re

import pytest
from matplotlib.image import imread

from medssl.ingest import report
from medssl.ingest.ingest import ingest
from medssl.library.catalog import read_catalog
from medssl.library.outcomes import read_outcomes
from medssl.library.volumes import volume_path
from medssl.runs.tracker import Tracker
from tests import phantoms

AFFINE = phantoms.affine_ras()


@pytest.fixture
def scans(tmp_path):
    """A CT, an MR, a series with a gap and a text file."""
    folder = tmp_path / "scans"
    phantoms.write_dicom(folder / "ct", phantoms.phantom(AFFINE), AFFINE)
    phantoms.write_nifti(folder / "mr.nii", phantoms.phantom(AFFINE), AFFINE)
    slices = phantoms.dicom_slices(phantoms.phantom(AFFINE, (7, 6, 9)), AFFINE)
    phantoms.save([ds for k, ds in enumerate(slices) if k != 4], folder / "gap")
    (folder / "notes.txt").write_text("not a scan")
    return folder


@pytest.fixture
def result(scans, configure):
    return ingest(configure(scans))


def text_of(page):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))


def test_the_page_tells_of_every_file(result):
    page = (result.folder / "ingest.html").read_text(encoding="utf-8")
    text, outcomes = text_of(page), read_outcomes(result.folder)
    for name, count in outcomes["outcome"].value_counts().items():
        assert f"{count} {name}" in text
    for code in outcomes.loc[outcomes["outcome"] != "converted", "reason_code"]:
        assert code in text
    assert page.count("<img") == result.summary["volumes"]
    assert "ingest.html" in result.look_at.values()


def test_the_page_runs_and_fetches_nothing(result):
    page = (result.folder / "ingest.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "Phantom^Analytic" not in page


def test_many_volumes_are_thinned_and_the_page_says_so(result, monkeypatch):
    monkeypatch.setattr(report, "MOST_PICTURES", 1)
    rows = read_catalog(result.folder).to_dict(orient="records")
    report.write_report(result.folder, [], rows, [])
    page = (result.folder / "ingest.html").read_text(encoding="utf-8")
    assert page.count("<img") == 1
    assert f"1 of {len(rows)} volumes" in text_of(page)


def test_a_damaged_volume_has_its_place(result):
    rows = read_catalog(result.folder).to_dict(orient="records")
    volume_path(result.folder, rows[0]["volume_key"]).write_bytes(b"no volume")
    report.write_report(result.folder, [], rows, [])
    assert "could not be read" in (result.folder / "ingest.html").read_text(encoding="utf-8")


def test_files_of_one_series_make_one_line(result):
    outcomes = read_outcomes(result.folder)
    assert (outcomes["reason_code"] == "missing_slices").sum() == 8
    page = (result.folder / "ingest.html").read_text(encoding="utf-8")
    assert page.count("<code>missing_slices</code>") == 1


def test_pictures_of_patients_are_not_sent_to_mlflow(scans, configure, monkeypatch):
    sent = []
    monkeypatch.setattr(Tracker, "log_file", lambda _, path, *__: sent.append(path.name))
    ingest(configure(scans))
    assert {"catalog.parquet", "quarantine.csv", "manifest.json"} <= set(sent)
    assert report.FILE not in sent


def test_a_ct_of_nothing_but_air_is_not_drawn_black(tmp_path, configure):
    air = phantoms.phantom(AFFINE, (20, 20, 8)) // 20 - 900
    phantoms.write_dicom(tmp_path / "air", air, AFFINE)
    folder = ingest(configure(tmp_path / "air")).folder
    (row,) = read_catalog(folder).to_dict(orient="records")
    assert row["max"] < -700
    uri = re.search(r"base64,([\w+/=]+)", (folder / "ingest.html").read_text())[1]
    assert imread(io.BytesIO(base64.b64decode(uri))).max() > 0.9
