"""An encoder describes the slices, and curation chooses by what it saw."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from medssl.curation.curate import curate
from medssl.curation.sampling_table import FILE, read_sampling_table
from medssl.curation.selection import selection_folder
from medssl.data.normalize import IntensityConfig
from medssl.data.prepare import PrepareConfig, prepare
from medssl.data.store import CropStore
from medssl.library.slices import write_slices
from medssl.models.encoders.segresnet import SegResNetEncoder
from medssl.models.weights import save_encoder
from pipelines.embed_slices import embed_planes, main
from tests.curation.libraries import Scan, blobs, curate_config, write_library


@pytest.fixture
def made(tmp_path):
    """A library, a store of it and an encoder that was never trained."""
    library, keys = tmp_path / "lib", ["a", "b"]
    write_library(library, {key: Scan(blobs(n, shape=(20, 22, 45))) for n, key in enumerate(keys)})
    write_slices(library, keys, fresh=keys)
    curate(curate_config(library))
    tree = {"library": library, "selection": "all", "out": tmp_path / "store", "workers": 1}
    tree |= {"spacing_mm": [4.0, 4.0, 4.0], "tracking": {"enabled": False}}
    store = CropStore(prepare(PrepareConfig.model_validate(tree)).folder)
    torch.manual_seed(0)
    encoder = SegResNetEncoder.Config(width=8).build()
    save_encoder(tmp_path / "encoder", encoder, spacing_mm=[4.0, 4.0, 4.0])
    return library, store, encoder.eval()


def test_curation_chooses_by_what_the_encoder_saw(made, tmp_path, capsys):
    library, store, _ = made
    table = tmp_path / "e.parquet"
    assert (
        main([str(library), str(store.path), str(tmp_path / "encoder"), "--out", str(table)]) == 0
    )
    assert "90 slices described" in capsys.readouterr().out
    rows = pq.read_table(table).to_pylist()
    assert [(r["volume_key"], r["index"]) for r in rows] == [
        (key, n) for key in ("a", "b") for n in range(45)
    ]
    slices = {"name": "embedding", "table": str(table), "min_cosine": 0.5}
    curate(curate_config(library, name="again", slices=slices))
    found = read_sampling_table(selection_folder(library, "again") / FILE).to_pylist()
    assert {row["strategy"] for row in found} == {"embedding.table/1"}
    assert 0 < sum(row["kept"] for row in found) < 90


def test_every_plane_along_any_axis_has_one_embedding_less_the_mean(made):
    _, store, encoder = made
    entry = store.entry("a")
    found = embed_planes(store, "a", 2, encoder, IntensityConfig())
    assert found.shape == (entry.shape[2], encoder.embed_dim)
    assert np.abs(found.mean(axis=0)).max() < 1e-4
    assert np.abs(found).max() > 1e-3
    again = embed_planes(store, "a", 2, encoder, IntensityConfig())
    np.testing.assert_array_equal(found, again)
    across = embed_planes(store, "a", 0, encoder, IntensityConfig())
    assert across.shape == (entry.shape[0], encoder.embed_dim)


def test_another_spacing_is_refused(made, tmp_path, capsys):
    library, store, encoder = made
    save_encoder(tmp_path / "other", encoder, spacing_mm=[1.5, 1.5, 1.5])
    out = str(tmp_path / "e.parquet")
    assert main([str(library), str(store.path), str(tmp_path / "other"), "--out", out]) == 1
    assert "the encoder was trained at (1.5, 1.5, 1.5)" in capsys.readouterr().err
