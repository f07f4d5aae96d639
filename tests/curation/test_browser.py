"""The pages of curation in a browser: what is promised is really there to see."""

import shutil

import numpy as np
import pytest

from medssl.curation.charts import COLOURS
from medssl.curation.curate import curate
from medssl.curation.explain import explain, write_explanation
from tests.browsers import document, needs_browser, photograph, shows
from tests.curation.libraries import Scan, blobs, curate_config, resampled, write_library

pytestmark = needs_browser


@pytest.fixture
def folder(tmp_path):
    scans = {f"v{n}": Scan(blobs(n), f"p{n}") for n in range(6)}
    scans["copy"] = Scan(resampled(blobs(1), 1.3), "p1")
    scans["thin"] = Scan(blobs(9, shape=(30, 28, 6)), "p9")
    library = write_library(tmp_path / "lib", scans)
    return curate(curate_config(library)).folder


def test_the_report_shows_its_pictures_charts_and_colours(folder, tmp_path):
    picture = photograph(folder / "report.html", tmp_path)
    shades = picture.astype(int).max(axis=2) - picture.astype(int).min(axis=2)
    grey = (shades == 0) & (picture[..., 0] > 40) & (picture[..., 0] < 200)
    assert grey.sum() > 50_000  # the thumbnails
    for decision in ("keep", "drop", "exclude"):
        assert shows(picture, COLOURS[decision]) > 20, decision
    rows = np.flatnonzero((picture < 250).any(axis=(1, 2)))
    assert rows.max() > 1500  # it goes on below the charts
    assert (picture[:, -8:] > 250).all(), "something is wider than the page"


def test_the_browser_blocks_nothing_and_reads_everything(folder, tmp_path):
    seen = document(folder / "report.html", tmp_path)
    for words in (
        "Before and after",
        "Kept",
        "The pairs that were hardest to decide",
        "Left out for their own sake",
        "slice_count",
    ):
        assert words in seen
    assert seen.count("data:image/svg+xml") == 2
    assert "<script" not in seen


def test_a_narrow_window_cuts_nothing_off(folder, tmp_path):
    picture = photograph(folder / "report.html", tmp_path, width_px=600, height_px=1200)
    assert shows(picture, COLOURS["keep"]) > 20


def test_the_explanation_shows_both_volumes(folder, tmp_path):
    page = tmp_path / "why.html"
    library = folder.parents[1]
    write_explanation(page, library, explain(library, "all", "copy"))
    picture = photograph(page, tmp_path, height_px=1400)
    dark = (picture < 40).all(axis=2)
    assert dark.sum() > 3 * 128 * 100  # three pictures on black
    shutil.copy(page, folder / "why.html")
    assert "the same scan on another voxel grid" in document(folder / "why.html", tmp_path)
