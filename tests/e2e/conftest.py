"""The shipped scans, once through ingest, curate and prepare as the quickstart does it."""

import pytest

from medssl.config.load import load
from medssl.curation.curate import curate
from medssl.data.prepare import prepare
from medssl.data.store import CropStore
from medssl.ingest.ingest import ingest
from medssl.pipeline import PipelineConfig

QUIET = [f"{stage}.tracking.enabled=false" for stage in ("ingest", "curate", "prepare", "pretrain")]


@pytest.fixture(scope="session")
def root(shipped):
    return shipped.parents[1]


@pytest.fixture(scope="session")
def quickstart_config(root, tmp_path_factory):
    """The quickstart's configuration, with a temporary work folder."""
    work = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)  # its paths to the scans are relative to the checkout
        path = root / "configs" / "pipelines" / "quickstart.yaml"
        yield load(PipelineConfig, path, [f"work={work}", *QUIET])


@pytest.fixture(scope="session")
def quickstart_store(quickstart_config):
    ingest(quickstart_config.ingest)
    curate(quickstart_config.curate)
    prepare(quickstart_config.prepare)
    return CropStore(quickstart_config.prepare.out)
