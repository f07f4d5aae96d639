"""Rows from Arrow say what the catalog says, whatever way they are asked."""

import pyarrow as pa
import pytest

from medssl.curation.catalog_rows import CatalogRows
from medssl.library.catalog import read_catalog
from tests.curation.libraries import Scan, blobs, write_library


@pytest.fixture
def library(tmp_path):
    return write_library(tmp_path / "lib", {f"v{n}": Scan(blobs(n), f"p{n % 2}") for n in range(5)})


def test_views_and_dictionaries_agree_with_the_catalog(library):
    rows = CatalogRows.read(library)
    frame = read_catalog(library)
    assert rows.keys == list(frame["volume_key"])
    for view, plain, (_, row) in zip(rows, rows.dicts(), frame.iterrows(), strict=True):
        assert dict(view) == plain
        assert plain["voxel_digest"] == row["voxel_digest"]
        assert plain["affine_ras"] == row["affine_ras"].tolist()


def test_what_is_not_known_is_none_or_an_empty_word():
    table = pa.table(
        {
            "volume_key": ["b", "a"],
            "modality": pa.array([None, "CT"]),
            "kvp": pa.array([float("nan"), None], pa.float64()),
        }
    )
    rows = CatalogRows(table)
    assert [dict(row) for row in rows] == list(rows.dicts())
    assert dict(rows.row("b")) == {"volume_key": "b", "modality": "", "kvp": None}
    assert rows.row("a")["kvp"] is None
    assert rows.words("modality") == {"a": "CT", "b": ""}


def test_some_of_them(library):
    rows = CatalogRows.read(library)
    some = rows.among(["v3", "v1"])
    assert some.keys == ["v1", "v3"]
    assert len(some) == 2
    assert dict(some[0]) == dict(rows.row("v1"))
    assert [row["volume_key"] for row in rows[1:3]] == ["v1", "v2"]
    assert rows.among(rows.keys) is rows
    assert len(rows.among([])) == 0
    with pytest.raises(KeyError):
        rows.row("nobody")
