import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.curation import calibrate as c
from medssl.curation.catalog_rows import CatalogRows
from medssl.curation.edges import NearDuplicateConfig
from medssl.errors import InputError
from medssl.library.catalog import read_catalog, write_catalog
from tests.curation.libraries import Scan, blobs, resampled, write_library

FEW = c.CalibrateConfig(least_pairs=3, false_positive_rate=0.2)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Four people, each with two reconstructions of one acquisition."""
    scans = {}
    for n in range(4):
        scan = blobs(n)
        for name, volume in (("fine", scan), ("coarse", resampled(scan, 1.3))):
            scans[f"{n}_{name}"] = Scan(volume, f"p{n}", f"s{n}", source_format="dicom")
    library = write_library(tmp_path_factory.mktemp("lib"), scans)
    rows = read_catalog(library).to_dict(orient="records")
    for row in rows:
        row |= {"affine_ras": row["affine_ras"].tolist(), "acquisition_s": 1.0}
        row |= {"frame_key": row["study_key"], "acquisition_key": row["study_key"]}
        row |= {name: list(row[name]) for name in ("flags", "split_by", "regularized")}
        row |= {name: None for name, value in row.items() if value != value}  # noqa: PLR0124
    write_catalog(library, rows, "test-key")
    return library


def run(library, config=FEW):
    rows = CatalogRows.read(library)
    return c.calibrate(rows, None, library, NearDuplicateConfig(), config, workers=1)


def test_headers_say_which_pairs_are_copies(archive):
    found = run(archive)
    assert found.copies == 4
    assert found.strangers == 24
    assert found.recall == found.recall_before == 1.0
    assert found.false_positive_rate == found.false_positive_rate_before == 0.0
    assert found == run(archive)


def test_too_few_pairs_settle_nothing(archive, tmp_path):
    with pytest.raises(InputError, match=r"4 pairs of one acquisition .* 5 are needed"):
        run(archive, c.CalibrateConfig(least_pairs=5))
    with pytest.raises(InputError, match=r"24 pairs of different patients .* 100 are needed"):
        run(archive, c.CalibrateConfig(least_pairs=3))
    strangers = write_library(tmp_path, {"a": Scan(blobs(1)), "b": Scan(blobs(2))})
    with pytest.raises(InputError, match="0 pairs of one acquisition"):
        run(strangers)


PAIRS = st.lists(
    st.tuples(st.floats(0.9, 1), st.floats(0, 0.5)), min_size=1, max_size=20
).map(np.array)  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(PAIRS, PAIRS, st.sampled_from([0.0, 0.1, 0.5]))
def test_the_thresholds_find_the_most_that_is_allowed(copies, strangers, most_false):
    try:
        ncc, motion = c.loosest(copies, strangers, most_false)
    except InputError:
        assert ((strangers[:, 0] >= 1.0) & (strangers[:, 1] <= 0.0)).mean() > most_false
        return

    def share(pairs, a, b):
        return ((pairs[:, 0] >= a) & (pairs[:, 1] <= b)).mean()

    assert share(strangers, ncc, motion) <= most_false
    best = share(copies, ncc, motion)
    for a in np.round(np.arange(0.9, 1.0001, 0.01), 4):
        for b in np.round(np.arange(0, 0.501, 0.05), 4):
            if share(strangers, a, b) <= most_false:
                assert share(copies, a, b) <= best
