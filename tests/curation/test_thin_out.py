"""Diversity, as curate uses it: surplus is told beside what is kept; a release loses nothing."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medssl.curation.curate import curate, decide
from medssl.errors import InputError
from tests.curation.libraries import Scan, blobs, curate_config, resampled, write_library

THIN = {"name": "farthest_point", "share": 0.5}


@pytest.fixture
def library(tmp_path):
    scans = {f"v{n}": Scan(blobs(n), f"p{n}") for n in range(6)}
    scans |= {f"w{n}": Scan(resampled(blobs(n), 1.3), f"p{n}") for n in range(6)}
    return write_library(tmp_path / "lib", scans)


def test_surplus_is_told_beside_what_is_kept(library):
    folder = curate(curate_config(library, diversity=THIN)).folder
    ledger = pd.read_parquet(folder / "ledger.parquet").set_index("item")
    kept = set(ledger.index[ledger["decision"] == "keep"])
    assert len(kept) == 3
    surplus = ledger[ledger["stage"] == "diversity"]
    assert len(surplus) == 6  # and their copies
    assert set(surplus["representative"]) <= kept
    assert surplus["score"].between(-1, 1).all()
    assert set(surplus["metric"]) == {"cosine of embeddings"}
    dropped = ledger[ledger["stage"] == "duplicates"]
    assert set(dropped["representative"]) - {""} <= kept


def test_a_release_loses_nothing_to_diversity(library):
    curate(curate_config(library, "v1", release=True))
    decisions = decide(curate_config(library, "v2", based_on="v1", diversity=THIN))
    assert len(decisions.kept) == 6


def test_embeddings_of_ones_own_serve_too(library, tmp_path):
    keys = [f"v{n}" for n in range(6)]
    vectors = [[1.0, 0.0], [1.0, 0.01], [1.0, 0.02], [0.0, 1.0], [0.01, 1.0], [0.02, 1.0]]
    table = tmp_path / "embeddings.parquet"
    pq.write_table(pa.table({"volume_key": keys, "embedding": vectors}), table)
    thin = THIN | {"share": 2 / 6}
    folder = curate(curate_config(library, diversity=thin, embeddings=table)).folder
    kept = pd.read_parquet(folder / "kept.parquet")["volume_key"]
    places = {int(key[1]) // 3 for key in kept}
    assert places == {0, 1}  # one of each kind
    assert np.isfinite(len((folder / "report.html").read_bytes()))
    pq.write_table(pa.table({"volume_key": keys[:3], "embedding": vectors[:3]}), table)
    with pytest.raises(InputError, match="lacks 3 of 6 volumes"):
        curate(curate_config(library, "less", diversity=thin, embeddings=table))
