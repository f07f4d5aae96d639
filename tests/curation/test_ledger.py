"""Every volume has its row, with all that accounts for it; the root tells a changed ledger."""

import json
import re

import pyarrow.parquet as pq
import pytest

from medssl.curation.curate import curate
from medssl.curation.leaders import rank_key
from medssl.curation.ledger import FILE, LEDGER_COLUMNS, read_ledger, root_of
from medssl.errors import InputError
from medssl.library.catalog import catalog_digest, read_catalog
from medssl.runs.manifest import Manifest
from medssl.runs.tracking import TrackingConfig
from tests.curation.libraries import Scan, blobs, curate_config, resampled, write_library


@pytest.fixture
def library(tmp_path):
    scans = {
        "a": Scan(blobs(1), "one"),
        "b": Scan(resampled(blobs(1), 1.3), "two"),
        "c": Scan(blobs(2, shape=(30, 28, 6)), "three"),
    }
    return write_library(tmp_path / "lib", scans)


def test_a_row_says_who_decided_with_what_and_when(library):
    folder = curate(curate_config(library)).folder
    table = read_ledger(folder)
    assert table.schema.names == list(LEDGER_COLUMNS)
    kept, dropped, excluded = table.to_pylist()
    assert [row["item"] for row in (kept, dropped, excluded)] == ["a", "b", "c"]
    assert [row["decision"] for row in (kept, dropped, excluded)] == ["keep", "drop", "exclude"]
    assert excluded["rule_version"]
    assert dropped["score"] >= dropped["threshold"] > 0
    assert dropped["edge_type"] == dropped["reason_code"] == "resampled"
    by_key = read_catalog(library).set_index("volume_key", drop=False).to_dict(orient="index")
    for row in (kept, dropped):
        assert row["rank"] == json.dumps(rank_key(by_key[row["item"]]))
    for row in (kept, dropped, excluded):
        assert row["catalog_digest"] == catalog_digest(library)
        assert row["config_digest"] == Manifest.read(folder).config_digest
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}\+00:00", row["time"])
        assert row["code_version"].startswith("0.")
        assert "voxels/" in row["signature_spec"]


def test_a_changed_row_changes_the_root(library):
    folder = curate(curate_config(library)).folder
    root = Manifest.read(folder).outputs["ledger"]
    assert root_of(folder) == root
    rows = read_ledger(folder).to_pylist()
    rows[1]["decision"] = "keep"
    schema = pq.read_schema(folder / FILE)
    pq.write_table(schema.empty_table().from_pylist(rows, schema=schema), folder / FILE)
    assert root_of(folder) != root


def test_the_root_is_recorded_where_runs_are(library, tmp_path):
    import mlflow

    folder = curate(curate_config(library, tracking=TrackingConfig())).folder
    manifest = Manifest.read(folder)
    client = mlflow.tracking.MlflowClient(f"sqlite:///{next(tmp_path.rglob('mlflow.db'))}")
    tags = client.get_run(manifest.mlflow_run_id).data.tags
    assert tags["output.ledger"] == manifest.outputs["ledger"]


def test_no_ledger_and_a_damaged_one_say_what_to_do(tmp_path):
    with pytest.raises(InputError, match="holds no ledger\n  hint: run the same `medssl curate`"):
        read_ledger(tmp_path)
    (tmp_path / FILE).write_bytes(b"damaged")
    with pytest.raises(InputError, match="is damaged\n  hint: run the same `medssl curate`"):
        read_ledger(tmp_path)
