import re
from html.parser import HTMLParser

import pytest

from medssl.curation.catalog_rows import CatalogRows
from medssl.curation.curate import curate, decide
from medssl.curation.decisions import Decisions, Exclusion
from medssl.curation.edges import Edge
from medssl.curation.report import large_groups, write_report
from medssl.library.volumes import volume_path
from tests.curation.libraries import Scan, blobs, curate_config, resampled, write_library


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(text)
        self.text = " ".join(self.words)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words += data.split()

    def pictures(self):
        sources = [attrs["src"] for tag, attrs in self.tags if tag == "img"]
        return [source for source in sources if source.startswith("data:image/png")]


@pytest.fixture
def library(tmp_path):
    return write_library(tmp_path / "lib", {f"v{n}": Scan(blobs(n), f"p{n}") for n in range(4)})


@pytest.fixture
def decisions(library):
    """v2 is a copy of v0, v3 is excluded, v0 and v1 are kept."""
    edge = Edge(
        volume_a="v0", volume_b="v2", kind="resampled", drops=True, score=0.9876, threshold=0.97
    )
    return Decisions(
        CatalogRows.read(library),
        excluded={"v3": Exclusion("spacing", "because <b>it</b> & that")},
        edges=[edge],
        representative={"v2": "v0"},
        split={"v0": "train", "v1": "test"},
        group={"v0": "p0", "v1": "p1", "v2": "p0", "v3": "p3"},
    )


def page(tmp_path, library, decisions, pictures=10, borderline=()):
    path = tmp_path / "report.html"
    write_report(path, library, decisions, decisions.proofs(), borderline, pictures)
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_shows_what_was_kept_and_pairs_of_what_was_not(tmp_path, library, decisions):
    seen = page(tmp_path, library, decisions)
    pictures = seen.pictures()
    assert len(pictures) == 5  # two kept, the pair, one that a rule excluded
    assert len(set(pictures)) == 4
    assert pictures[1] == pictures[3] or pictures[0] == pictures[3]
    assert "stands for 1 more" in seen.text
    assert "score 0.988, a copy from 0.970" in seen.text
    assert "because <b>it</b> & that" in seen.text  # escaped, so it is text and no tag
    assert "1 copies of a kept volume" in seen.text


def test_the_borderline_pairs_are_shown_and_what_to_do_with_them(tmp_path, library, decisions):
    seen = page(tmp_path, library, decisions, borderline=decisions.edges)
    assert "so v2 is out" in seen.text
    assert "--review FILE.csv" in seen.text
    assert len(seen.pictures()) == 7


def test_the_page_needs_nothing_from_elsewhere(tmp_path, library, decisions):
    seen = page(tmp_path, library, decisions)
    for tag, attrs in seen.tags:
        assert tag not in {"script", "link", "iframe"}
        for name in ("src", "href"):
            assert attrs.get(name, "data:").startswith("data:")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"url\(|@import|https?://", re.sub(r"base64,[^\"]*", "", text))


def test_no_more_pictures_than_asked_for(tmp_path, library, decisions):
    assert len(page(tmp_path, library, decisions, pictures=1).pictures()) == 4
    assert page(tmp_path, library, decisions, pictures=0).pictures() == []


def test_a_damaged_file_does_not_stop_the_page(tmp_path, library, decisions):
    volume_path(library, "v1").write_bytes(b"damaged")
    seen = page(tmp_path, library, decisions)
    assert "the file could not be read" in seen.text
    assert len(seen.pictures()) == 4


def test_the_same_decisions_make_the_same_bytes(tmp_path, library, decisions):
    texts = []
    for name in "ab":
        path = tmp_path / name
        write_report(path, library, decisions, decisions.proofs(), (), 10)
        texts.append(path.read_bytes())
    assert texts[0] == texts[1]


def test_a_withdrawn_volume_is_shown_nowhere(tmp_path, library):
    result = curate(curate_config(library, withdraw=["v1"]))
    seen = Page((result.folder / "report.html").read_text(encoding="utf-8"))
    alternatives = [attrs.get("alt", "") for tag, attrs in seen.tags if tag == "img"]
    assert not [alt for alt in alternatives if alt.endswith("v1")]
    assert "consent was withdrawn" in seen.text


def test_a_chain_of_people_is_told(tmp_path):
    """One person's scan under many names joins all of them: that deserves a look."""
    scans = {f"a{n}": Scan(resampled(blobs(1), 1 + n / 5), f"name {n}") for n in range(3)}
    scans |= {f"b{n}": Scan(blobs(5 + n), f"other {n}") for n in range(5)}
    decisions = decide(curate_config(write_library(tmp_path / "lib", scans)))
    (group,) = large_groups(decisions)
    assert group["patients"] == 3
    assert group["volumes"] == 1
    assert "resampled" in group["joined_by"]
