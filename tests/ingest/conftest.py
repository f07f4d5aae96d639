"""A small ingest: one process, no tracking, a key of its own."""

import pytest

from medssl.ingest.ingest import IngestConfig, ingest
from medssl.library.catalog import read_catalog
from medssl.library.outcomes import read_outcomes
from medssl.runs.tracking import TrackingConfig


@pytest.fixture
def configure(tmp_path):
    """Return a function that makes a config for some sources."""

    def make(*sources, library="library", **options):
        defaults = {
            "key_file": tmp_path / "key",
            "create_key": True,
            "workers": "inline",
            "tracking": TrackingConfig(enabled=False),
        }
        return IngestConfig(sources=sources, library=tmp_path / library, **(defaults | options))

    return make


@pytest.fixture
def ingested(configure):
    """Return a function that ingests sources and returns summary, files and catalog."""

    def run(*sources, **options):
        config = configure(*sources, **options)
        result = ingest(config)
        files, catalog = read_outcomes(config.library), read_catalog(config.library)
        assert result.summary["files"] == len(files)
        kinds = ("converted", "skipped", "quarantined")
        assert sum(result.summary[kind] for kind in kinds) == len(files)
        assert (files["outcome"] == "converted").equals(files["volume_key"] != "")
        assert (files["outcome"] == "converted").equals(files["reason"] == "")
        return result, files, catalog

    return run
