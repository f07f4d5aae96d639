from html.parser import HTMLParser

import pytest

from medssl.curation.report import write_report
from medssl.library.volumes import volume_path
from tests.curation.libraries import Scan, blobs, write_library


def kept(key, split="train", **changes):
    base = {"volume_key": key, "patient_key": f"patient-{key}", "modality": "CT", "split": split}
    return base | {"group_key": f"group-{key}", "alternates": []} | changes


def dropped(key, representative="", code="resampled"):
    return {
        "volume_key": key,
        "reason_code": code,
        "reason": "because <b>it</b> & that",
        "representative_key": representative,
        "score": 0.9876 if representative else None,
        "threshold": 0.97 if representative else None,
    }


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
        return [attrs["src"] for tag, attrs in self.tags if tag == "img"]


@pytest.fixture
def library(tmp_path):
    return write_library(tmp_path / "lib", {f"v{n}": Scan(blobs(n)) for n in range(4)})


def page(tmp_path, library, kept_rows, excluded_rows, pictures=10):
    path = tmp_path / "report.html"
    write_report(path, library, kept_rows, excluded_rows, pictures)
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_shows_what_was_kept_and_pairs_of_what_was_not(tmp_path, library):
    rows = [kept("v0", alternates=["v2"]), kept("v1", "test")]
    seen = page(tmp_path, library, rows, [dropped("v2", "v0"), dropped("v3", code="spacing")])
    pictures = seen.pictures()
    assert len(pictures) == 5  # two kept, the pair, one that a rule excluded
    assert len(set(pictures)) == 4
    assert pictures[0] == pictures[3]
    assert "stands for 1 more" in seen.text
    assert "score 0.988, needed 0.970" in seen.text
    assert "because <b>it</b> & that" in seen.text  # escaped, so it is text and no tag


def test_the_page_needs_nothing_from_elsewhere(tmp_path, library):
    seen = page(tmp_path, library, [kept("v0")], [dropped("v2", "v0")])
    for tag, attrs in seen.tags:
        assert tag not in {"script", "link", "iframe"}
        for name in ("src", "href"):
            assert attrs.get(name, "data:").startswith("data:")


def test_no_more_pictures_than_asked_for(tmp_path, library):
    rows = [kept(f"v{n}", "train" if n < 2 else "val") for n in range(4)]
    assert len(page(tmp_path, library, rows, [], pictures=2).pictures()) == 2
    assert page(tmp_path, library, rows, [], pictures=0).pictures() == []


def test_a_damaged_file_does_not_stop_the_page(tmp_path, library):
    volume_path(library, "v1").write_bytes(b"damaged")
    seen = page(tmp_path, library, [kept("v0"), kept("v1")], [])
    assert "the file could not be read" in seen.text
    assert len(seen.pictures()) == 1
