"""Choosing beside slow twins, and what holds for any way of it."""

import math
from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.config.choice import available, find
from medssl.curation.diversify import surplus_volumes
from medssl.curation.diversity.base import SCALE, nearest_of, squared_distances, whole
from medssl.curation.diversity.farthest_point import FarthestPoint
from medssl.curation.diversity.hierarchical_kmeans import HierarchicalKmeans, water_fill
from medssl.curation.kmeans import centroids, kmeans
from medssl.errors import InputError

PACKAGE = "medssl.curation.diversity"
NAMES = available(PACKAGE)


def config_of(name, **options):
    few = {"clusters": (6, 2), "nearest": 2} if name == "hierarchical_kmeans" else {}
    return find(PACKAGE, name).Config(**few, **options)


def kinds(counts, seed=0, width=6):
    """Items of several kinds, a tight bunch each."""
    rng = np.random.default_rng(seed)
    centres = np.linalg.qr(rng.normal(size=(width, width)))[0][: len(counts)]
    kind = np.repeat(np.arange(len(counts)), counts)
    return centres[kind] + 0.05 * rng.normal(size=(len(kind), width)), kind


def slow_water_fill(sizes, count):
    """One at a time, round after round."""
    quotas = [0] * len(sizes)
    while sum(quotas) < min(count, sum(sizes)):
        for n, size in enumerate(sizes):
            if quotas[n] < size and sum(quotas) < count:
                quotas[n] += 1
    return quotas


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(0, 40))
def test_water_is_shared_out_in_rounds(sizes, count):
    found = water_fill(np.array(sizes, np.int64), count)
    assert found.tolist() == slow_water_fill(sizes, count)


@st.composite
def items(draw):
    count, width = draw(st.integers(1, 14)), draw(st.integers(1, 4))
    numbers = draw(st.lists(st.integers(-3, 3), min_size=count * width, max_size=count * width))
    return np.array(numbers, np.float64).reshape(count, width)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40)
@given(items(), st.floats(0.05, 1), st.integers(0, 2), st.randoms(use_true_random=False))
def test_as_many_as_asked_each_with_its_nearest_whatever_the_order(name, given_, share, seed, rnd):
    names = [f"n{n:02d}" for n in range(len(given_))]
    chooser = config_of(name, share=share, seed=seed).build()
    found = chooser.choose(given_, names)
    assert found.kept.sum() == max(1, round(share * len(names)))
    kept = np.flatnonzero(found.kept)
    exact = whole(given_)
    for n in range(len(names)):
        assert found.kept[found.representative[n]]
        if found.kept[n]:
            assert found.representative[n] == n
        apart = [((exact[n] - exact[k]) ** 2).sum() for k in kept]
        to_own = ((exact[n] - exact[found.representative[n]]) ** 2).sum()
        assert to_own == min(apart)
    order = list(range(len(names)))
    rnd.shuffle(order)
    again = chooser.choose(given_[order], [names[n] for n in order])
    assert (again.kept == found.kept[order]).all()
    assert [order[n] for n in again.representative] == found.representative[order].tolist()
    np.testing.assert_array_equal(again.cosine, found.cosine[order])


def test_rare_kinds_get_as_much_as_common_ones():
    embeddings, kind = kinds([80, 12, 4, 4])
    names = [f"{n:03d}" for n in range(len(kind))]
    config = HierarchicalKmeans.Config(clusters=(12, 4), nearest=4, share=0.16)
    found = config.build().choose(embeddings, names)
    shares = np.bincount(kind[found.kept], minlength=4)
    assert shares.tolist() == [4, 4, 4, 4]
    other = HierarchicalKmeans.Config(clusters=(12, 4), nearest=4, share=0.16, seed=1)
    assert (other.build().choose(embeddings, names).kept != found.kept).any()


def test_resampling_gives_rare_kinds_centres():
    embeddings, kind = kinds([300, 6, 6, 6], seed=3)
    exact = whole(embeddings)

    def centres_at_rare_kinds(resamplings):
        config = HierarchicalKmeans.Config(clusters=(16,), nearest=3, resamplings=resamplings)
        (level,) = config.build().hierarchy(exact)
        return (kind[nearest_of(level.centres_KD, exact)[0]] > 0).sum()

    assert centres_at_rare_kinds(4) >= centres_at_rare_kinds(0)
    assert centres_at_rare_kinds(4) >= 3


def test_farthest_points_are_within_twice_the_best_choice():
    rng = np.random.default_rng(0)
    for _ in range(6):
        embeddings = rng.normal(size=(11, 3))
        exact = whole(embeddings)
        share = 4 / 11
        found = (
            FarthestPoint.Config(share=share)
            .build()
            .choose(embeddings, [str(n) for n in range(10, 21)])
        )

        def radius(places, exact=exact):
            return max(min(math.dist(a, exact[p]) for p in places) for a in exact)

        best = min(radius(places) for places in combinations(range(11), 4))
        assert radius(np.flatnonzero(found.kept)) <= 2 * best + 1e-9


def test_kmeans_takes_the_steps_of_lloyd():
    rng = np.random.default_rng(0)
    points = np.rint(rng.normal(size=(30, 3)) * SCALE)
    start = points[:4]
    centres = start.copy()
    for _ in range(50):
        nearest = [
            min(range(len(centres)), key=lambda k: ((p - centres[k]) ** 2).sum()) for p in points
        ]
        groups = [[p for p, n in zip(points, nearest, strict=True) if n == k] for k in range(4)]
        centres = np.array([np.rint(sum(group) / len(group)) for group in groups if group])
    found = kmeans(points, 4, np.random.default_rng(0), 50, start)
    np.testing.assert_array_equal(found, centres)
    np.testing.assert_array_equal(kmeans(points, 40, np.random.default_rng(0), 1).shape[1], 3)


def test_distances_are_exact_and_an_empty_cluster_vanishes():
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-SCALE, SCALE, (n, 300)).astype(np.float64) for n in (7, 5))
    slow = [[sum((int(x) - int(y)) ** 2 for x, y in zip(p, q, strict=True)) for q in b] for p in a]
    assert squared_distances(a, b).tolist() == slow
    means = centroids(np.array([[2.0], [5.0], [9.0]]), np.array([0, 0, 2]), 3)
    assert means.tolist() == [[4.0], [9.0]]


def test_choosing_among_nothing_is_a_bug_and_says_so():
    with pytest.raises(ValueError, match="wanted items, each with a name of its own"):
        FarthestPoint.Config().build().choose(np.zeros((0, 3)), [])
    with pytest.raises(ValueError, match="wanted items, each with a name of its own"):
        FarthestPoint.Config().build().choose(np.zeros((2, 3)), ["a", "a"])


def catalog(count):
    rng = np.random.default_rng(0)
    return [
        {"volume_key": f"k{n}", "voxel_digest": f"{n:02x}", "dct_full": rng.bytes(32)}
        for n in range(count)
    ]


def test_volumes_are_known_by_their_signatures_or_a_table(tmp_path):
    rows = catalog(9)
    left_out = surplus_volumes(FarthestPoint.Config(share=4 / 9), rows)
    assert len(left_out) == 5
    kept = {row["volume_key"] for row in rows} - set(left_out)
    bits = {row["volume_key"]: int.from_bytes(row["dct_full"], "big") for row in rows}
    for key, (representative, cosine) in left_out.items():
        assert representative in kept
        differ = {other: (bits[key] ^ bits[other]).bit_count() for other in kept}
        assert differ[representative] == min(differ.values())
        assert cosine == pytest.approx(1 - 2 * differ[representative] / 256, abs=1e-3)
    table = {"volume_key": [], "embedding": []}
    for n in range(9):  # two slices each, whose mean points in one of three directions
        for sign in (-1, 1):
            table["volume_key"].append(f"k{n}")
            table["embedding"].append([float(n % 3 == d) + sign * 0.3 for d in range(3)])
    pq.write_table(pa.table(table), tmp_path / "e.parquet")
    found = surplus_volumes(FarthestPoint.Config(share=1 / 3), rows, tmp_path / "e.parquet")
    assert {int(key[1:]) % 3 for key in {r["volume_key"] for r in rows} - set(found)} == {0, 1, 2}
    with pytest.raises(InputError, match="lacks 2 of 11 volumes"):
        surplus_volumes(FarthestPoint.Config(), catalog(11), tmp_path / "e.parquet")
    with pytest.raises(
        InputError, match="no Parquet file with the columns volume_key and embedding"
    ):
        surplus_volumes(FarthestPoint.Config(), rows, tmp_path / "none.parquet")
    assert surplus_volumes(FarthestPoint.Config(), []) == {}
