import pandas as pd
import pytest

from medssl.curation.curate import curate
from medssl.curation.explain import as_text, explain, write_explanation
from medssl.errors import InputError
from medssl.library.volumes import volume_path
from tests.curation.libraries import Scan, blobs, curate_config, resampled, write_library


@pytest.fixture
def library(tmp_path):
    scans = {
        "aaaa-original": Scan(blobs(1), "one", "s1", "", "dicom"),
        "aabb-resampled": Scan(resampled(blobs(1), 1.3), "other"),
        "bbbb-thin": Scan(blobs(2, shape=(30, 28, 6)), "two"),
        "cccc-single": Scan(blobs(3), "three"),
    }
    library = write_library(tmp_path / "lib", scans)
    curate(curate_config(library))
    return library


def text(library, item):
    return "\n".join(as_text(explain(library, "all", item)))


def test_a_kept_volume_says_what_it_stands_for(library):
    told = text(library, "aaaa-original")
    assert "kept, in train" in told
    assert "stands for:\n    aabb-resampled  resampled" in told
    assert "CT, 30x28x26 voxels of 3.00 x 3.00 x 3.00 mm" in told


def test_a_copy_says_beside_what_and_how_close(library):
    told = text(library, "aabb")  # the beginning of a key is enough
    assert "dropped: a copy of a kept volume aaaa-original" in told
    assert "a copy from 0.9" in told
    assert "ranked by:" in told


def test_an_excluded_volume_says_which_rule(library):
    told = text(library, "bbbb")
    assert "excluded" in told
    assert "(rules: slice_count)" in told
    assert "nothing else resembles it" in told


def test_a_key_that_names_none_or_several(library):
    with pytest.raises(InputError, match="begins the keys of several volumes: aaaa-original, aabb"):
        explain(library, "all", "aa")
    with pytest.raises(InputError, match="knows no volume 'zz'"):
        explain(library, "all", "zz")


def test_the_page_shows_both(library, tmp_path):
    page = tmp_path / "why.html"
    write_explanation(page, library, explain(library, "all", "aabb"))
    written = page.read_text(encoding="utf-8")
    assert written.count("data:image/png") == 3
    assert "the same scan on another voxel grid" in written
    volume_path(library, "aaaa-original").write_bytes(b"damaged")
    write_explanation(page, library, explain(library, "all", "aabb"))
    assert "no picture to show" in page.read_text(encoding="utf-8")


def test_the_text_agrees_with_the_ledger(library):
    ledger = pd.read_parquet(library / "selections/all/ledger.parquet")
    for row in ledger.to_dict(orient="records"):
        told = text(library, row["item"])
        assert row["reason"] in told
        assert row["signature_spec"] in told


def test_a_slice_needs_a_sampling_table(library):
    from medssl.curation.explain import explain_slice

    with pytest.raises(InputError, match="no sampling table"):
        explain_slice(library, "all", "aaaa", 3)
