"""The page as a person sees it, in a browser, on a desk and on a phone."""

import html
import json
import re
import subprocess

import numpy as np
import pytest

from medssl.evaluation.evaluate import EvaluateConfig, evaluate
from medssl.evaluation.report import twins_told
from tests.browsers import CHROMIUM, FLAGS, needs_browser, photograph, shows
from tests.evaluation.kinds.tables import judged, trained
from tests.finetuned import finetuned

AROUND = """<iframe style="border: 0; width: {width}px; height: 900px" srcdoc="{page}"></iframe>
<script>
window.onload = () => {{
  const frame = document.querySelector("iframe"), seen = frame.contentDocument;
  const asked = frame.contentWindow.performance.getEntriesByType("resource").map(one => one.name);
  const images = [...seen.images].map(image => [image.naturalWidth, image.naturalHeight]);
  const wide = seen.documentElement.scrollWidth;
  document.body.innerHTML = "<pre>" + JSON.stringify({{images, wide, asked}}) + "</pre>";
}};
</script>"""
"""A window cannot be as narrow as a phone, a frame can; the page itself runs no script."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    root = tmp_path_factory.mktemp("pages")
    quick = {"resamples": 100, "permutations": 100, "tracking": {"enabled": False}}
    robustness = {"corruptions": [{"name": "intensity_shift"}], "most_cases": 1}
    evaluate(
        EvaluateConfig(finetune=finetuned(), out=root / "masks", robustness=robustness, **quick)
    )
    judged(root / "classes", trained("classification", "finding"))
    return {name: root / name / "report.html" for name in ("masks", "classes")}


def browse(page, folder, width_px):
    """Return how wide the page and its images are, and what it asked for."""
    probe = folder / f"{page.parent.name}-{width_px}.html"
    probe.write_text(AROUND.format(width=width_px, page=html.escape(page.read_text())))
    arguments = (
        f"--user-data-dir={folder / 'profile'}",
        "--dump-dom",
        probe.resolve().as_uri(),
    )
    done = subprocess.run(
        [CHROMIUM, *FLAGS, *arguments], check=True, capture_output=True, timeout=120, text=True
    )
    return json.loads(re.search(r"<pre>(.*)</pre>", done.stdout)[1])


@needs_browser
@pytest.mark.parametrize("name", ["masks", "classes"])
def test_nothing_is_wider_than_a_phone_and_every_picture_has_pixels(pages, name, tmp_path):
    found = browse(pages[name], tmp_path, 360)
    assert found["wide"] <= 360
    assert len(found["images"]) >= 3
    assert min(min(size) for size in found["images"]) > 150
    assert not found["asked"]


@needs_browser
def test_what_is_too_wide_or_asks_for_more_would_be_noticed(pages, tmp_path):
    page = tmp_path / "wide" / "report.html"
    page.parent.mkdir()
    bad = '<div style="width: 700px">wide</div><img src="https://example.invalid/a.png"></body>'
    text = re.sub(r"<meta http-equiv[^>]*>", "", pages["classes"].read_text())
    page.write_text(text.replace("</body>", bad))
    found = browse(page, tmp_path, 360)
    assert found["wide"] > 360
    assert found["asked"] == ["https://example.invalid/a.png"]


@needs_browser
def test_scans_and_both_outlines_are_seen(pages, tmp_path):
    picture = photograph(pages["masks"], tmp_path, height_px=2600)
    assert shows(picture, "#f0e442", within=25) > 300  # the reference
    assert shows(picture, "#56b4e9", within=25) > 300  # a prediction
    grey = np.ptp(picture.astype(int), axis=2) == 0
    assert (grey & (picture[..., 0] > 40) & (picture[..., 0] < 200)).sum() > 50_000


@pytest.mark.parametrize("name", ["masks", "classes"])
def test_the_page_needs_nothing_else_and_names_no_folder(pages, name):
    page = pages[name].read_text()
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert str(pages[name].parents[1]) not in page
    assert str(finetuned().parent) not in page


def test_it_says_what_a_reader_asks_for(pages):
    masks, classes = pages["masks"].read_text(), pages["classes"].read_text()
    for words in (
        "Worst case: case-", "Best case: case-", "Black to white", "Scans made worse",
        "The data set says nothing of its patients", "Where this comes from", "git commit",
        "Not for clinical use", "only the encoder&#39;s first weights differ",
    ):  # fmt: skip
        assert words in masks, words
    for words in (
        "Are the probabilities right?", "Most confident", "sensitivity", "finding = 1", "sex",
        "Thresholds and one temperature were chosen on",
    ):  # fmt: skip
        assert words in classes, words


def provenance(first, second):
    return [{"models": {"pretrained": {"strategy": first}, "scratch": {"strategy": second}}}]


def test_twins_that_were_trained_otherwise_are_told_apart():
    assert "only the encoder's first weights" in twins_told(provenance("full", "full"))
    said = twins_told(provenance("linear_probe", "full"))
    assert "strategy linear_probe" in said
    assert "from scratch by full" in said
    assert twins_told([{"models": {"scratch": {"strategy": "full"}}}]) == ""
