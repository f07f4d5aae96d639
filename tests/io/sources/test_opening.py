"""What a person writes as a source, and what becomes of it."""

from pathlib import Path

import pytest

from medssl.errors import InputError
from medssl.io.deidentify import Pseudonymizer
from medssl.io.sources.archive import ArchiveConfig
from medssl.io.sources.dimse import DimseSource
from medssl.io.sources.folder import list_files
from medssl.io.sources.opening import (
    FetchSettings,
    SourceSettings,
    open_fetched,
    open_source,
    set_apart,
)
from medssl.io.sources.remote import RemoteSource
from medssl.io.sources.scp import ScpSource
from tests.io.sources.test_archive import zip_of


def test_a_path_is_a_path_and_an_address_a_source(tmp_path):
    settings = SourceSettings()
    assert open_fetched("a/b.zip", settings) == Path("a/b.zip")
    assert open_fetched("file:///a/b", settings) == Path("/a/b")
    assert isinstance(open_fetched("dimse://A@h:104", settings), DimseSource)
    assert isinstance(open_fetched("memory://x", settings), RemoteSource)
    assert isinstance(open_source("scp://A@h:104", settings, tmp_path, 0), ScpSource)
    with pytest.raises(InputError, match="dicomweb"):
        open_fetched("https://host/x", settings)
    with pytest.raises(InputError, match="waits for others"):
        open_fetched("scp://A@h:104", FetchSettings())


def test_archives_are_set_apart_by_name_or_where_they_are_given_by_content(tmp_path, monkeypatch):
    zip_of(tmp_path / "a.zip", [("x", b"1")])
    for name in ("given", "document", "left_out.zip"):
        zip_of(tmp_path / name, [("x", b"1")])
    monkeypatch.chdir(tmp_path)
    sources = [tmp_path, Path("given")]  # as it is typed
    refs = list_files(sources, Pseudonymizer.ephemeral())
    plain, archives = set_apart(refs, sources, ArchiveConfig(), exclude=["left*"])
    assert sorted(ref.path.name for ref in plain) == ["document", "left_out.zip"]
    found = {parcel.name for archive in archives for parcel in archive.list_parcels()}
    assert found == {"a.zip!", "given!"}
