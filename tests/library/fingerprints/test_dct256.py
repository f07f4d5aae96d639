import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import fft, ndimage

from medssl.library.fingerprints import dct256 as d


def blobs(seed, shape=(40, 37, 33), sigma=5.0):
    """Smooth random anatomy in a body of air."""
    rng = np.random.default_rng(seed)
    tissue = ndimage.gaussian_filter(rng.normal(size=shape), sigma, mode="wrap")
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    body = (grid**2).sum(axis=0) < 0.8
    return np.where(body, 40 + 300 * tissue / tissue.std(), -1000).astype(np.int16)


def bits_apart(a, b):
    return int(np.bitwise_count(np.frombuffer(a, "u1") ^ np.frombuffer(b, "u1")).sum())


def pool(levels_IJK):
    return d.area_pool(levels_IJK, d.Quantiser(np.asarray))


def slow_pool(levels_IJK):
    """Overlap of every cell with every voxel, in float64."""
    overlaps = []
    for n in levels_IJK.shape:
        edges = np.arange(d.CELLS + 1) * n / d.CELLS
        overlap = np.zeros((d.CELLS, n))
        for cell in range(d.CELLS):
            for voxel in range(n):
                inside = min(edges[cell + 1], voxel + 1) - max(edges[cell], voxel)
                overlap[cell, voxel] = max(inside, 0) / (n / d.CELLS)
        overlaps.append(overlap)
    return np.einsum("ai,bj,ck,ijk->abc", *overlaps, levels_IJK.astype(float), optimize=True)


@pytest.mark.parametrize("shape", [(40, 37, 33), (5, 64, 90), (1, 2, 3), (32, 32, 32)])
def test_area_pool_equals_its_slow_twin(shape):
    levels_IJK = np.random.default_rng(0).integers(0, 65536, shape).astype(np.uint16)
    fast = pool(levels_IJK) / 2**d.MEAN_SHIFT
    np.testing.assert_allclose(fast, slow_pool(levels_IJK), rtol=0, atol=2**-d.MEAN_SHIFT)


def test_cosine_transform_equals_its_slow_twin():
    cells_IJK = pool(d.quantise(blobs(1), "hu"))
    n = int(d.FREQUENCIES.max()) + 1
    exact = fft.dctn(cells_IJK.astype(float), type=2)[:n, :n, :n] / 8
    fast = d.cosine_transform(cells_IJK) / 2 ** (2 * d.COSINE_SHIFT)
    np.testing.assert_allclose(fast, exact, atol=1e-3 * np.abs(exact).max())


def test_bits_equal_the_float_signs_where_those_are_clear():
    for seed in range(5):
        levels_IJK = d.quantise(blobs(seed), "hu")
        exact = fft.dctn(slow_pool(levels_IJK), type=2)[tuple(d.FREQUENCIES.T)]
        margin = exact - np.median(exact)
        bits = np.unpackbits(np.frombuffer(d.signature(pool(levels_IJK)), "u1")).astype(bool)
        clear = np.abs(margin) > 2e-3 * np.abs(exact).max()
        assert clear.mean() > 0.7
        np.testing.assert_array_equal(bits[clear], margin[clear] > 0)


def test_the_largest_levels_do_not_overflow():
    levels_IJK = np.full((64, 64, 64), 65535, dtype=np.uint16)
    levels_IJK[::2] = 0
    pooled = [int(v) for v in np.unique(pool(levels_IJK))]
    assert pooled == [65535 << d.MEAN_SHIFT >> 1]
    cells = np.full((d.CELLS,) * 3, 65535 << d.MEAN_SHIFT, dtype=np.int64)
    assert d.cosine_transform(cells)[0, 0, 0] == int(cells.sum()) << 2 * d.COSINE_SHIFT


def test_frequencies_are_the_256_lowest_and_start_behind_the_mean():
    assert d.FREQUENCIES.shape == (256, 3)
    assert d.FREQUENCIES[:3].tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]
    lengths = (d.FREQUENCIES**2).sum(axis=1)
    assert (np.diff(lengths) >= 0).all()
    assert len(np.unique(d.FREQUENCIES, axis=0)) == 256


def test_golden_vectors():
    i, j, k = np.indices((20, 30, 25))
    volume = (i * 37 + j * j * 5 + (k * i) % 91 * 11 - 900).astype(np.int16)
    full, bbox = d.dct256(volume, "hu")
    assert full.hex() == "00145de7bbfad10b755d4120884a6a4f6054d5439ed7ea6fe1fa3df50358e136"
    assert bbox.hex() == "00145de7bbfad10b755d4120884a6a4f6054d5439ed7ea6fe1fa3df50358e136"
    assert (
        d.dct256(volume, "arbitrary")[0].hex()
        == "0295982a9cfe938f43d0bf828eab610fa892d2779fbf610a77a3c90788125fd3"
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_half_of_the_bits_are_set_and_nothing_depends_on_memory_layout(seed):
    rng = np.random.default_rng(seed)
    volume = rng.integers(-1024, 1000, tuple(rng.integers(1, 40, 3))).astype(np.int16)
    full, bbox = d.dct256(volume, "hu")
    for bits in (full, bbox):
        assert len(bits) == 32
        assert int(np.bitwise_count(np.frombuffer(bits, "u1")).sum()) == 128
    assert d.dct256(np.asfortranarray(volume).astype(">f8"), "hu") == (full, bbox)


def test_copies_are_near_and_strangers_far():
    original = blobs(0)
    full, _ = d.dct256(original, "hu")
    copies = {
        "resampled": ndimage.zoom(original.astype(float), 0.7, order=1),
        "smoothed": ndimage.gaussian_filter(original.astype(float), 0.8),
        "noisy": original + np.random.default_rng(1).normal(0, 30, original.shape),
        "thick slices": original.astype(float).reshape(40, 37, 11, 3).mean(axis=-1),
    }
    for name, copy in copies.items():
        assert bits_apart(full, d.dct256(copy, "hu")[0]) <= 32, name
    assert bits_apart(full, d.dct256(blobs(1), "hu")[0]) > 64


def test_the_bounding_box_sees_through_a_wider_margin():
    original = blobs(0)
    padded = np.pad(original, ((9, 3), (0, 12), (5, 5)), constant_values=-1000)
    (full, bbox), (padded_full, padded_bbox) = d.dct256(original, "hu"), d.dct256(padded, "hu")
    assert bits_apart(bbox, padded_bbox) <= 8
    assert bits_apart(full, padded_full) > 64


def test_an_offset_and_a_slope_change_few_bits_of_an_arbitrary_volume():
    original = blobs(2)
    assert d.dct256(original, "arbitrary") == d.dct256(original.astype(float) * 4 + 7, "arbitrary")


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_volumes_without_content_have_a_signature(value):
    assert d.dct256(np.full((4, 4, 4), value), "hu") == d.dct256(np.zeros((3, 3, 3)), "arbitrary")


def test_a_lone_bright_voxel_is_seen_though_percentiles_are_not():
    volume = np.zeros((20, 20, 20))
    volume[3, 4, 5] = 1000
    assert d.quantise(volume, "arbitrary").max() == 65535
