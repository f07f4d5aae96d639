"""What must hold for the kept slices, whatever their scores, places and shares of body."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from medssl.curation.slices import VolumeSlices
from medssl.curation.strategies.base import NOBODY, Leader
from medssl.curation.strategies.every_mm import EveryMm
from medssl.curation.strategies.matched_k import MatchedK
from medssl.curation.strategies.random_k import RandomK

GAP_MM, BITS = 7.0, 3


class ByNumber(Leader):
    """Slices described by one number each; alike where the numbers are close."""

    is_distance = True
    threshold = float(BITS)

    class Config(Leader.Config):
        max_gap_mm: float = GAP_MM
        order: tuple[int, ...] = ()

    def ranking(self, slices):
        return list(self.config.order)

    def describe(self, slices):
        return np.array([int.from_bytes(s, "little") for s in slices.dct256], np.int64)

    def scores(self, described, one, others):
        return np.abs(described[others] - described[one]).astype(np.float64)


def nothing_to_read():
    raise AssertionError("no voxel is needed")


@st.composite
def volumes(draw):
    count = draw(st.integers(1, 16))
    gaps = draw(st.lists(st.integers(1, 5), min_size=count, max_size=count))
    numbers = draw(st.lists(st.integers(0, 12), min_size=count, max_size=count))
    shares = draw(st.lists(st.sampled_from([0.0, 0.3, 0.6]), min_size=count, max_size=count))
    return VolumeSlices(
        volume_key="v",
        voxel_digest=str(numbers),
        slice_axis=2,
        positions_mm=np.cumsum(gaps).astype(np.float64),
        foreground=np.array(shares),
        dct256=tuple(n.to_bytes(32, "little") for n in numbers),
        read=nothing_to_read,
    )


@st.composite
def ranked_volumes(draw):
    slices = draw(volumes())
    return slices, tuple(draw(st.permutations(range(len(slices)))))


def slow_leaders(slices, order):
    """Sequential greedy: every slice in turn beside every kept one."""
    number = [int.from_bytes(s, "little") for s in slices.dct256]
    least = min(0.05, max(slices.foreground))
    kept, representative = [], {}
    for i in order:
        if slices.foreground[i] < least:
            continue
        joined = [
            j
            for j in kept
            if abs(slices.positions_mm[i] - slices.positions_mm[j]) <= GAP_MM
            and abs(number[i] - number[j]) <= BITS
        ]
        if joined:
            representative[i] = joined[0]
        else:
            kept.append(i)
    return sorted(kept), representative


def reduce(slices, order):
    return ByNumber(ByNumber.Config(order=order)).reduce(slices)


@given(ranked_volumes())
def test_equals_sequential_greedy(case):
    found = reduce(*case)
    kept, representative = slow_leaders(*case)
    assert np.flatnonzero(found.kept).tolist() == kept
    shown = np.flatnonzero(found.representative != NOBODY)
    assert {int(i): int(found.representative[i]) for i in shown} == representative


@given(ranked_volumes())
def test_every_dropped_slice_has_a_kept_one_that_is_alike_and_near(case):
    slices, _ = case
    found = reduce(*case)
    for i, reason in enumerate(found.reasons):
        if reason == "similar":
            leader = found.representative[i]
            assert found.kept[leader]
            assert found.score[i] <= BITS
            assert abs(slices.positions_mm[i] - slices.positions_mm[leader]) <= GAP_MM
        else:
            assert found.representative[i] == NOBODY
            assert np.isnan(found.score[i])
        assert (reason == "kept") == found.kept[i]


@given(ranked_volumes())
def test_no_two_kept_slices_are_alike_and_near(case):
    slices, _ = case
    kept = np.flatnonzero(reduce(*case).kept)
    number = [int.from_bytes(slices.dct256[i], "little") for i in kept]
    at_mm = slices.positions_mm[kept]
    for a in range(len(kept)):
        for b in range(a):
            assert abs(number[a] - number[b]) > BITS or abs(at_mm[a] - at_mm[b]) > GAP_MM


@given(ranked_volumes())
def test_reducing_the_kept_ones_again_drops_nothing(case):
    slices, order = case
    kept = np.flatnonzero(reduce(*case).kept)
    place = {int(old): new for new, old in enumerate(kept)}
    rest = VolumeSlices(
        volume_key="v",
        voxel_digest="rest",
        slice_axis=2,
        positions_mm=slices.positions_mm[kept],
        foreground=slices.foreground[kept],
        dct256=tuple(slices.dct256[i] for i in kept),
        read=nothing_to_read,
    )
    again = reduce(rest, tuple(place[i] for i in order if i in place))
    assert again.kept.all()


@given(volumes(), st.floats(1, 12))
def test_even_thinning_leaves_no_slice_without_a_kept_one_nearby(slices, step_mm):
    found = EveryMm.Config(step_mm=step_mm, max_gap_mm=GAP_MM).build().reduce(slices)
    kept_mm = slices.positions_mm[found.kept]
    for i, reason in enumerate(found.reasons):
        if reason != "air":
            assert np.abs(kept_mm - slices.positions_mm[i]).min() <= GAP_MM
    assert "thinned" not in [found.reasons[i] for i in np.flatnonzero(found.kept)]


@given(volumes(), st.integers(0, 3), st.sampled_from(["random", "even"]))
def test_controls_keep_as_many_as_what_they_control(slices, seed, placement):
    like = EveryMm.Config(step_mm=4.0)
    count = like.build().reduce(slices).kept.sum()
    control = MatchedK.Config(like=like, placement=placement, seed=seed, max_gap_mm=GAP_MM).build()
    found, again = control.reduce(slices), control.reduce(slices)
    assert found.kept.sum() == count
    assert (found.kept == again.kept).all()
    assert all(found.reasons[i] == "kept" for i in np.flatnonzero(found.kept))
    shown = np.flatnonzero(found.representative != NOBODY)
    apart_mm = np.abs(slices.positions_mm[shown] - slices.positions_mm[found.representative[shown]])
    assert (apart_mm <= GAP_MM).all()


@given(volumes(), st.floats(0.01, 1))
def test_a_random_share_is_that_share_of_what_is_not_air(slices, share):
    found = RandomK.Config(share=share).build().reduce(slices)
    there = sum(reason != "air" for reason in found.reasons)
    assert found.kept.sum() == max(1, round(share * there))
