from concurrent.futures import ThreadPoolExecutor
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medssl.library.fingerprints import slice_dct256 as s
from medssl.library.fingerprints.dct256 import MEAN_SHIFT, quantise
from tests.library.fingerprints.test_area_pool import slow_shares


def anatomy(seed, shape=(90, 80, 6)):
    """Smooth random tissue in a body of air, in HU, another in every slice."""
    rng = np.random.default_rng(seed)
    tissue = ndimage.gaussian_filter(rng.normal(size=shape), (6, 6, 1), mode="wrap")
    x, y = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape[:2]), indexing="ij")
    body = (x**2 + 1.2 * y**2 < 0.8)[..., None]
    return np.where(body, 40 + 250 * tissue / tissue.std(), -1000).astype(np.int16)


def bits_apart(a_SB, b_SB):
    return np.bitwise_count(a_SB ^ b_SB).sum(axis=1)


def slow_signature(levels_RC):
    """Key and signature of one slice as booleans, in loops and float64, from the definition."""
    rows, columns = levels_RC.shape
    down, across = slow_shares(rows) / (rows / 32), slow_shares(columns) / (columns / 32)
    cells = down @ levels_RC.astype(float) @ across.T
    order = sorted(
        ((u, v) for u in range(32) for v in range(32)), key=lambda f: f[0] ** 2 + f[1] ** 2
    )
    x = np.arange(32)
    wave = [np.cos(np.pi * (2 * x + 1) * u / 64) for u in range(32)]
    found = np.array([wave[u] @ cells @ wave[v] for u, v in order[1:257]])
    rounded = np.floor(found / (np.abs(found).mean() / 8) + 0.5)
    close = np.abs(found / (np.abs(found).mean() / 8) % 1 - 0.5) < 0.01  # rounding may differ
    bits = []
    for count in (64, 256):
        ranked = sorted(range(count), key=lambda i: (rounded[i], i))
        bits.append(np.isin(np.arange(count), ranked[count // 2 :]))
    return *bits, close


def test_bits_equal_the_slow_twins():
    array = anatomy(1)
    found = s.slice_dct256(array, "hu", 2)
    levels = quantise(array, "hu")
    for k in range(array.shape[2]):
        key, signature, close = slow_signature(levels[:, :, k])
        differ = np.unpackbits(found.signatures_SB[k]).astype(bool) != signature
        # A coefficient that two roundings take apart moves itself and one at the median.
        assert differ.sum() <= 2 * close.sum()
        key_differs = np.unpackbits(found.keys_SB[k]).astype(bool) != key
        assert key_differs.sum() <= 2 * close[:64].sum()
        np.testing.assert_allclose(
            found.foreground_S[k], np.mean(array[:, :, k] >= -300), rtol=1e-6
        )


GOLDEN = [
    (0, "050a2f5baec70e5d", "05020e5a0606021c05460ea129f2a24c37f290e9f974ea9ebeee7d5fbf6fbd8f"),
    (1, "040614f7fbd18cf3", "040614f2511080d2b015043a01f9894830eb33ee599fe82fe5f6dc7ef5ff7faf"),
    (2, "eda02025555eaf9b", "810000044512aa9bf8df3e5575fbdbe7ffc7d5253f26106f705e2a5ab4c19271"),
]


def test_golden_vectors():
    i, j, k = np.indices((40, 50, 3))
    array = ((i * i * 7 + j * j * 13 + i * j * 3 + k * 401) % 2039 - 1024).astype(np.int16)
    for axis, key, signature in GOLDEN:
        found = s.slice_dct256(array, "hu", axis)
        assert len(found.keys_SB) == array.shape[axis]
        assert found.keys_SB[1].tobytes().hex() == key
        assert found.signatures_SB[1].tobytes().hex() == signature


def test_the_largest_levels_do_not_overflow():
    cells_SRC = np.zeros((2, 32, 32), np.int64)
    cells_SRC[:, ::2] = (65536 << MEAN_SHIFT) - 1
    cells_SRC[1] = cells_SRC[1].T
    waves = [[int(c) for c in row] for row in s._COSINES]
    for cells_RC, found in zip(cells_SRC.tolist(), s.cosine_transform(cells_SRC), strict=True):
        half_UC = [
            [sum(w * row[c] for w, row in zip(wave, cells_RC, strict=True)) >> 6 for c in range(32)]
            for wave in waves
        ]
        exact = [
            sum(a * b for a, b in zip(half_UC[u], waves[v], strict=True)) for u, v in s.FREQUENCIES
        ]
        assert found.tolist() == exact


def test_frequencies_are_the_256_lowest_and_start_behind_the_mean():
    assert s.FREQUENCIES.shape == (256, 2)
    assert s.FREQUENCIES[:4].tolist() == [[0, 1], [1, 0], [1, 1], [0, 2]]
    assert (np.diff((s.FREQUENCIES**2).sum(axis=1)) >= 0).all()


@pytest.mark.parametrize("axes", list(permutations(range(3))))
@pytest.mark.parametrize("slice_axis", [0, 1, 2])
def test_nothing_depends_on_the_order_in_memory(axes, slice_axis):
    array = anatomy(3, (50, 43, 38))
    found = s.slice_dct256(array, "hu", slice_axis)
    flips = tuple(slice(None, None, -1 if axis else 1) for axis in axes)
    lying = np.ascontiguousarray(array[flips].transpose(axes)).transpose(np.argsort(axes))[flips]
    assert lying.strides != array.strides or axes == (0, 1, 2)
    np.testing.assert_array_equal(lying, array)
    assert same(s.slice_dct256(lying, "hu", slice_axis), found)
    one = array.take([17], axis=slice_axis)
    assert same(s.slice_dct256(one, "hu", slice_axis), found, 17)


def same(a, b, index=None):
    pick = slice(None) if index is None else slice(index, index + 1)
    return all(
        np.array_equal(getattr(a, name), getattr(b, name)[pick])
        for name in ("keys_SB", "signatures_SB", "foreground_S")
    )


def test_any_number_of_threads_gives_the_same_bytes():
    arrays = [anatomy(seed, (64, 70, 9)) for seed in range(8)]
    alone = [s.slice_dct256(array, "hu", 2) for array in arrays]
    for threads in (2, 8):
        with ThreadPoolExecutor(threads) as pool:
            jobs = [pool.submit(s.slice_dct256, array, "hu", 2) for array in arrays]
        assert all(same(job.result(), one) for job, one in zip(jobs, alone, strict=True))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_half_of_the_bits_are_set_whatever_the_voxels_and_their_type(seed):
    rng = np.random.default_rng(seed)
    volume = rng.integers(-1024, 1000, tuple(rng.integers(1, 70, 3))).astype(np.int16)
    found = s.slice_dct256(volume, "hu", 1)
    assert (np.bitwise_count(found.keys_SB).sum(axis=1) == 32).all()
    assert (np.bitwise_count(found.signatures_SB).sum(axis=1) == 128).all()
    assert same(s.slice_dct256(volume.astype(">f8"), "hu", 1), found)


def test_a_copy_of_a_slice_is_near_and_another_slice_far():
    array = anatomy(0, (120, 110, 8))
    values = array.astype(float)
    smooth = ndimage.gaussian_filter(values, (0.8, 0.8, 0))
    noise = np.random.default_rng(1).normal(0, 25, array.shape)
    copies = {
        "resized": ndimage.zoom(values, (0.7, 0.7, 1), order=1, grid_mode=True, mode="nearest"),
        "smoothed": smooth,
        "sharpened": values + (values - smooth) + noise,
        "gamma": 2047 * ((values.clip(-1024, 1023) + 1024) / 2047) ** 0.8 - 1024,
    }
    found = s.slice_dct256(array, "hu", 2)
    for name, copy in copies.items():
        other = s.slice_dct256(np.rint(copy).astype(np.int16), "hu", 2)
        assert bits_apart(found.signatures_SB, other.signatures_SB).max() <= 28, name
    stranger = s.slice_dct256(anatomy(7, (120, 110, 8)), "hu", 2)
    assert bits_apart(found.signatures_SB, stranger.signatures_SB).min() > 60


def test_a_part_of_a_volume_shares_its_keys_and_most_survive_another_kernel():
    array = anatomy(0, (120, 110, 40))
    keys = {key.tobytes() for key in s.slice_dct256(array, "hu", 2).keys_SB}
    part = s.slice_dct256(array[:, :, 10:30], "hu", 2).keys_SB
    assert all(key.tobytes() in keys for key in part)
    soft = np.rint(ndimage.gaussian_filter(array.astype(float), (0.8, 0.8, 0))).astype(np.int16)
    shared = [key.tobytes() in keys for key in s.slice_dct256(soft, "hu", 2).keys_SB]
    assert np.mean(shared) > 0.6
    stranger = s.slice_dct256(anatomy(9, (120, 110, 40)), "hu", 2).keys_SB
    assert not any(key.tobytes() in keys for key in stranger)


def test_noise_does_not_draw_the_bits_of_a_symmetric_slice():
    half = anatomy(5, (60, 100, 4))
    values = np.concatenate([half, half[::-1]])
    noise = np.random.default_rng(0).normal(0, 10, values.shape)
    found, noisy = (
        s.slice_dct256(np.rint(a).astype(np.int16), "hu", 2) for a in (values, values + noise)
    )
    assert bits_apart(found.signatures_SB, noisy.signatures_SB).max() <= 12


@pytest.mark.parametrize("value", [0.0, np.nan, 3000.0])
def test_slices_without_content_have_a_signature(value):
    flat = s.slice_dct256(np.full((4, 4, 4), value), "hu", 0)
    assert same(flat, s.slice_dct256(np.full((5, 3, 4), value, np.float32), "hu", 2))
    assert flat.foreground_S.tolist() == [float(value in {0, 3000})] * 4
