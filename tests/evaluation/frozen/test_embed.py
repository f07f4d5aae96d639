import numpy as np
import pytest
import torch

from medssl.curation.diversify import embeddings_of
from medssl.errors import ConfigError, InputError
from medssl.evaluation.frozen.embed import (
    box_of,
    check_patch,
    describe,
    level_names,
    read_rows,
    view_size,
    write_rows,
)
from medssl.models.encoders.segresnet import SegResNetEncoder
from medssl.models.encoders.unet import UNetEncoder

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return SegResNetEncoder.Config(width=4, blocks=(1, 1)).build().eval()


def volume(*shape):
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def test_what_lies_outside_a_volume_is_dark():
    small = np.ones((2, 3, 4), np.float32)
    found = box_of(small, (-1, 0, 2), (4, 3, 3))
    assert found.sum() == 2 * 3 * 2
    assert found[1:3, :, :2].all()


def test_an_embedding_is_the_mean_over_patches_that_cover_the_volume(encoder):
    voxels = volume(16, 8, 12)
    seen = describe(encoder, voxels, (8, 8, 8), most=4, device=CPU)
    patches = [voxels[i : i + 8, :, k : k + 8] for i in (0, 8) for k in (0, 4)]
    with torch.no_grad():
        each = [encoder.embed(torch.from_numpy(p.copy())[None, None])[0] for p in patches]
        maps = [encoder.features(torch.from_numpy(p.copy())[None, None]) for p in patches]
    np.testing.assert_allclose(seen.embedding_D, torch.stack(each).mean(0), rtol=1e-4, atol=1e-6)
    for number, level in enumerate(seen.levels):
        expected = torch.stack([m[number][0].mean((1, 2, 3)) for m in maps]).mean(0)
        np.testing.assert_allclose(level, expected, rtol=1e-4, atol=1e-6)


def test_an_encoder_of_slices_sees_slices():
    torch.manual_seed(0)
    flat = UNetEncoder.Config(dims=2).build().eval()
    assert view_size(flat, (16, 16, 16)) == (16, 16, 1)
    seen = describe(flat, volume(16, 16, 5), (16, 16, 16), most=2, device=CPU)
    with torch.no_grad():
        slices = [torch.from_numpy(volume(16, 16, 5)[None, None, ..., k]) for k in (0, 4)]
        each = torch.cat([flat.embed(x) for x in slices])
    np.testing.assert_allclose(seen.embedding_D, each.mean(0), rtol=1e-3, atol=1e-5)


def test_patches_that_do_not_fit_the_strides_are_refused(encoder):
    check_patch(encoder, (8, 8, 8))
    with pytest.raises(ConfigError, match=r"\(8, 9, 8\) voxels are no multiple of 2"):
        check_patch(encoder, (8, 9, 8))


def test_the_table_is_one_that_curation_reads(tmp_path):
    rows = [{"volume_key": key, "embedding": [n, 2.0], "level_0": [1.0]} for n, key in
            enumerate("ab")]  # fmt: skip
    write_rows(tmp_path / "e.parquet", rows)
    assert embeddings_of(tmp_path / "e.parquet", ["b", "a"]).tolist() == [[1, 2], [0, 2]]
    assert read_rows(tmp_path / "e.parquet", ["a", "b"]) == rows
    assert read_rows(tmp_path / "e.parquet", ["a"]) is None
    assert read_rows(tmp_path / "none.parquet", ["a"]) is None
    assert list(level_names(rows)) == ["level_0"]


def test_a_damaged_table_is_named(tmp_path):
    (tmp_path / "e.parquet").write_bytes(b"PAR1nothing")
    with pytest.raises(InputError, match="the table of embeddings is damaged"):
        read_rows(tmp_path / "e.parquet", ["a"])
