"""The table: one row per slice, the same for any number of workers and order of volumes."""

import hashlib

import numpy as np
import pyarrow.parquet as pq
import pytest

import medssl.curation.sampling_table as module
from medssl.curation.sampling_table import (
    COLUMNS,
    read_sampling_table,
    table_digest,
    weights_digest,
    weights_of,
    write_sampling_table,
)
from medssl.curation.slices import VolumeSlices
from medssl.curation.strategies.hash import Hash
from medssl.curation.strategies.ssim import Ssim
from medssl.errors import InputError
from medssl.library.catalog import read_catalog
from medssl.library.slices import FILE, write_slices
from medssl.library.volumes import volume_path
from tests.curation.libraries import Scan, blobs, write_library

KEYS = ("a", "b", "c", "d", "e")


@pytest.fixture
def library(tmp_path):
    scans = {key: Scan(blobs(n, shape=(14, 13, 20 + n))) for n, key in enumerate(KEYS)}
    write_library(tmp_path / "lib", scans)
    write_slices(tmp_path / "lib", KEYS, fresh=KEYS)
    return tmp_path / "lib"


def catalog_rows(library):
    return read_catalog(library).to_dict("records")


def written(library, path, config=None, rows=None, workers=1):
    config = config or Hash.Config()
    return write_sampling_table(path, config, library, rows or catalog_rows(library), workers)


def test_every_slice_has_a_row_that_says_what_the_strategy_said(library, tmp_path):
    config = Hash.Config(dropped_weight=0.25)
    summary = written(library, tmp_path / "t.parquet", config)
    table = read_sampling_table(tmp_path / "t.parquet")
    assert table.schema.names == list(COLUMNS)
    assert summary.slices == len(table) == sum(20 + n for n in range(5))
    assert summary.kept == sum(table["kept"].to_pylist()) == summary.reasons["kept"]
    for n, key in enumerate(KEYS):
        found = config.build().reduce(VolumeSlices.of(blobs(n, shape=(14, 13, 20 + n))))
        rows = read_sampling_table(tmp_path / "t.parquet", [key]).to_pylist()
        assert [row["index"] for row in rows] == list(range(20 + n))
        assert [row["reason"] for row in rows] == list(found.reasons)
        worth = {"kept": 1.0, "similar": 0.25, "air": 0.0}
        assert [row["weight"] for row in rows] == [worth[r] for r in found.reasons]
        for row, leader, score in zip(rows, found.representative, found.score, strict=True):
            assert row["representative_index"] == (None if leader < 0 else leader)
            assert row["score"] == (None if leader < 0 else score)
            assert row["threshold"] == (None if leader < 0 else found.threshold)
            assert row["strategy"] == "hash.dct256/1"
        assert np.diff([row["position_mm"] for row in rows]) == pytest.approx([3.0] * (19 + n))


def test_nothing_depends_on_workers_order_pieces_or_groups(library, tmp_path, monkeypatch):
    first = written(library, tmp_path / "first.parquet", Ssim.Config())
    expected = pq.read_table(tmp_path / "first.parquet")
    monkeypatch.setattr(module, "AT_ONCE", 2)
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 30)
    rows = catalog_rows(library)
    for n, workers in enumerate((1, 2)):
        path = tmp_path / f"{n}.parquet"
        assert written(library, path, Ssim.Config(), rows[::-1], workers) == first
        assert pq.read_table(path).equals(expected)
        assert table_digest(path) == weights_digest(expected) == first.digest


def test_the_digest_is_of_the_weights(library, tmp_path):
    first = written(library, tmp_path / "t.parquet")
    other = written(library, tmp_path / "u.parquet", Hash.Config(dropped_weight=0.5))
    assert first.digest != other.digest
    slow = hashlib.sha256()
    for key, (axis, weights, _) in weights_of(read_sampling_table(tmp_path / "t.parquet")).items():
        slow.update(f"{key} {axis} {len(weights)} ".encode())
        for weight in weights:
            slow.update(np.float64(weight).tobytes())
    assert slow.hexdigest() == first.digest


def test_a_damaged_volume_stops_nothing_and_weighs_evenly(library, tmp_path):
    volume_path(library, "c").write_bytes(b"damaged")
    summary = written(library, tmp_path / "t.parquet", Ssim.Config())
    rows = read_sampling_table(tmp_path / "t.parquet", ["c"]).to_pylist()
    assert {(row["weight"], row["reason"]) for row in rows} == {(1.0, "unreadable")}
    assert summary.reasons["unreadable"] == 22


def test_a_library_without_signatures_is_told_what_to_do(library, tmp_path):
    table = pq.read_table(library / FILE)
    pq.write_table(table.drop_columns(["slice_dct256"]), library / FILE)
    with pytest.raises(InputError, match="lacks slice_dct256"):
        written(library, tmp_path / "t.parquet")
    pq.write_table(table.slice(0, 20), library / FILE)
    with pytest.raises(InputError, match="does not know the volume b and 3 others"):
        written(library, tmp_path / "t.parquet")
    (library / FILE).unlink()
    with pytest.raises(InputError, match="holds no table of slices"):
        written(library, tmp_path / "t.parquet")
    assert not (tmp_path / "t.parquet").exists()


def test_what_is_no_sampling_table_is_refused(library, tmp_path):
    with pytest.raises(InputError, match="there is no sampling table"):
        read_sampling_table(tmp_path / "none.parquet")
    for path in (library / FILE, tmp_path / "text.parquet"):
        if path.name == "text.parquet":
            path.write_text("no table")
        for read in (read_sampling_table, table_digest):
            with pytest.raises(InputError, match="is damaged, or no sampling table"):
                read(path)
