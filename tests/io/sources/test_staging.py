"""The waiting room of parcels: what was interrupted goes on, whatever the files are called."""

import pytest

from medssl.io.deidentify import Pseudonymizer
from medssl.io.sources.archive import ArchiveConfig, ArchiveSource
from medssl.io.sources.staging import Staging
from tests.io.sources.test_archive import zip_of


@pytest.fixture
def staging(tmp_path):
    return Staging(tmp_path / "library", Pseudonymizer.ephemeral(), "settings")


def test_what_looks_like_our_own_half_files_does_not_stop_a_second_attempt(staging, tmp_path):
    path = zip_of(tmp_path / "a.zip", [("scan.part/1", b"1"), ("2.part", b"2")])
    source = ArchiveSource("in", {"a.zip": path}, ArchiveConfig())
    (delivery,) = staging.deliveries([source])
    for _ in range(2):  # the first was interrupted after this
        staged = staging.fetch(delivery)
        assert sorted(ref.name for ref in staged.refs) == ["a.zip!/2.part", "a.zip!/scan.part/1"]
        assert staged.refused == []
    staging.drop(delivery)
    assert list(staging.folder.iterdir()) == []
