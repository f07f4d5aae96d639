from dataclasses import replace

import numpy as np
import pytest

from medssl.curation.catalog_rows import CatalogRows
from medssl.curation.edges import NearDuplicateConfig
from medssl.curation.leakage import Side, shared_between
from medssl.errors import InputError
from medssl.library.identity import claim_library
from tests.curation.libraries import Scan, altered, blobs, resampled, write_library


def between(a, b, tmp_path, **config):
    return shared_between(a, b, tmp_path / "joint", NearDuplicateConfig(**config), workers=1)


@pytest.fixture
def seen(tmp_path):
    return write_library(tmp_path / "a", {f"v{n}": Scan(blobs(n), f"p{n}") for n in range(3)})


def test_copies_leak_whatever_was_done_to_them(tmp_path, seen):
    scan = blobs(0)
    floats = replace(scan, array_IJK=scan.array_IJK.astype(np.float32))
    scans = {
        "v0": Scan(blobs(7)),  # a key says nothing about content
        "exact": Scan(scan, file_digest="file-of-v0"),
        "export": Scan(floats),
        "coarser": Scan(resampled(blobs(1), 1.3)),
    }
    b = Side(write_library(tmp_path / "b", scans), names={"coarser": "imagesTs/x.nii.gz"})
    found = between(Side(seen), b, tmp_path)
    assert {(tie.in_b, tie.kind, tie.in_a) for tie in found} == {
        ("volume exact", "identical", "volume v0"),
        ("volume export", "re_export", "volume v0"),
        ("imagesTs/x.nii.gz", "resampled", "volume v1"),
    }
    assert all(tie.leaks for tie in found)


def test_strangers_share_nothing(tmp_path, seen):
    scans = {f"w{n}": Scan(blobs(n), f"q{n}") for n in range(5, 8)}
    assert between(Side(seen), Side(write_library(tmp_path / "b", scans)), tmp_path) == []


def test_every_twin_of_a_leaking_volume_leaks(tmp_path, seen):
    copy = resampled(blobs(0), 1.3)
    library = write_library(tmp_path / "b", {"one": Scan(copy), "two": Scan(copy)})
    found = between(Side(seen), Side(library), tmp_path)
    assert {tie.in_b for tie in found if tie.leaks} == {"volume one", "volume two"}


def test_what_is_only_alike_is_told_and_is_no_leak(tmp_path, seen):
    rng = np.random.default_rng(0)
    scan = blobs(0)
    noisy = altered(scan, scan.array_IJK + 60 * rng.normal(size=scan.shape))
    library = write_library(tmp_path / "b", {"noisy": Scan(noisy)})
    found = between(
        Side(seen), Side(library), tmp_path, link_ncc=0.3, copy_ncc=0.9999, same_patient_ncc=1.0
    )
    assert [(tie.kind, tie.leaks) for tie in found] == [("ambiguous", False)]


def test_only_the_selected_volumes_count(tmp_path, seen):
    b = Side(write_library(tmp_path / "b", {"x": Scan(blobs(0))}))
    assert between(Side(seen, frozenset({"v1", "v2"})), b, tmp_path / "1") == []
    assert between(Side(seen, frozenset({"v0"})), b, tmp_path / "2")


def test_patients_are_compared_where_one_key_made_their_pseudonyms(tmp_path, seen):
    library = write_library(tmp_path / "b", {"x": Scan(blobs(9), "p1")})
    assert between(Side(seen), Side(library), tmp_path / "1") == []
    for folder in (seen, library):
        claim_library(folder, "one key")
    (found,) = between(Side(seen), Side(library), tmp_path / "2")
    assert (found.in_b, found.kind, found.in_a) == ("volume x", "same_patient", "volume v1")
    assert found.leaks


def test_two_selections_of_one_library(tmp_path, seen):
    train, test = Side(seen, frozenset({"v0"})), Side(seen, frozenset({"v1"}))
    assert between(train, test, tmp_path / "1") == []
    assert between(train, train, tmp_path / "2")[0].kind == "identical"


def test_a_library_that_changed_since_is_refused(tmp_path, seen):
    with pytest.raises(InputError, match="1 of 2 selected volumes are not in the catalog any more"):
        between(Side(seen, frozenset({"v0", "gone"})), Side(seen), tmp_path)
    assert len(CatalogRows.read(seen)) == 3
