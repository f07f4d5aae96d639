"""A real selection into a store: the weights of its slices, and other views of its scans."""

from dataclasses import replace

import numpy as np
import pytest

from medssl.curation.curate import curate
from medssl.curation.sampling_table import FILE, read_sampling_table
from medssl.curation.selection import selection_folder
from medssl.data.prepare import PrepareConfig, prepare
from medssl.data.store import CropStore
from medssl.errors import FolderError
from medssl.library.slices import write_slices
from tests.curation.libraries import Scan, altered, blobs, curate_config, write_library


@pytest.fixture
def library(tmp_path):
    """Two scans; of the first a second reconstruction, somewhat smoother and of another day."""
    first = blobs(1, shape=(40, 38, 36))
    scans = {"a": Scan(first, "one"), "b": Scan(blobs(2, shape=(40, 38, 36)), "two")}
    write_library(tmp_path / "lib", scans)
    write_slices(tmp_path / "lib", list(scans), fresh=list(scans))
    return tmp_path / "lib"


@pytest.fixture
def config(library, tmp_path):
    def make(out="store", **changes):
        values = {"library": library, "selection": "all", "out": tmp_path / out, "workers": 1}
        values |= {"spacing_mm": [4.0, 4.0, 4.0], "tracking": {"enabled": False}}
        return PrepareConfig.model_validate(values | changes)

    return make


def test_planes_of_the_store_carry_the_weights_of_the_slices(library, config):
    curate(curate_config(library, slices={"name": "hash", "max_bits": 60}))
    result = prepare(config())
    assert result.summary["weighed"] == 2
    store = CropStore(result.folder)
    store.verify()
    table = read_sampling_table(selection_folder(library, "all") / FILE)
    for key in ("a", "b"):
        entry = store.entry(key)
        assert entry.slice_axis == 2
        assert len(entry.slice_weights) == entry.shape[2]
        rows = [row for row in table.to_pylist() if row["volume_key"] == key]
        # Only air was cut away, which has no weight.
        assert sum(entry.slice_weights) == pytest.approx(sum(row["weight"] for row in rows))
        centre_mm = np.average(
            [r["position_mm"] for r in rows], weights=[r["weight"] for r in rows]
        )
        planes_mm = entry.affine_ras[2][3] + 4.0 * np.arange(entry.shape[2])
        assert np.average(planes_mm, weights=entry.slice_weights) == pytest.approx(centre_mm, abs=1)


def test_without_a_table_the_store_is_as_it_was(library, config):
    curate(curate_config(library))
    plain = CropStore(prepare(config("plain")).folder)
    curate(curate_config(library, slices={"name": "hash"}), overwrite=True)
    without = CropStore(prepare(config("without", slice_weights=False)).folder)
    assert plain.digest == without.digest
    assert (plain.path / "entries.parquet").read_bytes() == (
        without.path / "entries.parquet"
    ).read_bytes()
    entry = plain.entry("a")
    assert (entry.slice_axis, entry.slice_weights, entry.view_of) == (None, None, None)
    assert "slice" not in entry.line
    weighed = CropStore(prepare(config("weighed")).folder)
    assert weighed.digest != plain.digest
    assert weighed.entry("a").content_digest == entry.content_digest


def test_another_table_is_another_store(library, config):
    curate(curate_config(library, slices={"name": "hash"}))
    prepare(config())
    curate(curate_config(library, slices={"name": "every_mm"}), overwrite=True)
    with pytest.raises(FolderError):
        prepare(config())
    assert not prepare(config(), overwrite=True).skipped
    assert prepare(config()).skipped


def test_other_reconstructions_come_as_views_where_wanted(tmp_path, config, library, monkeypatch):
    first = blobs(1, shape=(40, 38, 36))
    sharper = altered(first, first.array_IJK * 1.1)
    longer = replace(first, array_IJK=first.array_IJK[:, :, 4:])
    longer = replace(longer, affine_ras=first.affine_ras @ shifted(4))
    scans = {
        "a": Scan(first, "one"),
        "a2": Scan(sharper, "one"),
        "a3": Scan(longer, "one"),
        "b": Scan(blobs(2, shape=(40, 38, 36)), "two"),
    }
    write_library(library, scans)
    write_slices(library, list(scans), fresh=list(scans))
    curate(curate_config(library, slices={"name": "hash", "max_bits": 60}))
    with_views = with_second_views(monkeypatch)
    plain = prepare(config("plain"))
    assert "other_views" not in plain.summary
    result = prepare(config("views", views=True))
    store = CropStore(result.folder)
    assert sorted(store.keys()) == ["a", "b"]
    assert sorted(store.views("a")) == ["a", "a2", "a3"]
    assert result.summary["other_views"] == with_views == 2
    entries = [store.entry(key) for key in ("a", "a2", "a3")]
    assert len({(entry.split, entry.patient_key) for entry in entries}) == 1
    assert entries[1].slice_weights == entries[0].slice_weights
    planes_mm = [e.affine_ras[2][3] + 4.0 * np.arange(e.shape[2]) for e in entries]
    first_mm, cut_mm = (
        np.average(at, weights=entry.slice_weights)
        for at, entry in zip(planes_mm[::2], entries[::2], strict=True)
    )
    assert cut_mm == pytest.approx(first_mm, abs=6)  # the same places in mm, less what was cut


def shifted(slices):
    move = np.eye(4)
    move[2, 3] = slices
    return move


def with_second_views(monkeypatch):
    """A selection that calls ``a2`` and ``a3`` second views of ``a``, however they were judged."""
    import medssl.data.prepare
    from medssl.curation.selection import Selection, read_selection

    def told(library, name):
        found = read_selection(library, name)
        kept = found.kept[found.kept["volume_key"].isin(["a", "b"])].copy()
        kept["views"] = [["a2", "a3"] if key == "a" else [] for key in kept["volume_key"]]
        return Selection(kept, found.digest)

    monkeypatch.setattr(medssl.data.prepare, "read_selection", told)
    return 2
