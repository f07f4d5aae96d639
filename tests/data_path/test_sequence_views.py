"""Two contrasts of one place: what is chosen, simulated, deformed, and what is compared."""

import numpy as np
import pytest

from medssl.data.dataset import CropDataset, DatasetConfig
from medssl.data.mr_protocols import GreyConfig, to_grey
from medssl.data.mr_signal import Maps, simulate
from medssl.data.sequence_views import SequenceViews
from medssl.data.store import CropStore
from medssl.errors import InputError
from tests.regions import in_sequences, whole

NAMES = ("PD", "R1", "R2s", "MT")
SPEC = SequenceViews(crop_voxels=8)


def random_maps(spec=SPEC):
    rng = np.random.default_rng(0)
    return [rng.random(spec.region_voxels, dtype=np.float32) for _ in NAMES]


def choose(contrasts, mode="bloch_paired", seed=0):
    return SequenceViews(mode=mode).choose(contrasts, np.random.default_rng(seed))


def test_maps_are_chosen_by_name_and_sequences_by_chance():
    assert choose(["T1w", "R2s", "PD", "R1"]) == (2, 3, 1)
    assert choose(["MT", "R2s", "PD", "R1"]) == (2, 3, 1, 0)
    pairs = {choose(["T1w", "T2w", "FLAIR"], seed=n) for n in range(60)}
    assert pairs == {(a, b) for a in range(3) for b in range(3) if a != b}
    assert set(choose([None, "PD", "T2w"])) == {0, 2}, "a map is no sequence"
    assert set(choose(["PD", "R1", "R2s", "T1w", "T2w"], "sequences")) == {3, 4}
    assert len(choose(["PD", "R1", "R2s"], "sequences")) == 2
    assert choose(["T1w"]) == choose(["T1w", "T2w"], "bloch") == ()
    assert choose(["PD", "R1", "R2s"], "mprage") == (0, 1, 2)


@pytest.mark.parametrize("mode", ["mprage", "bloch", "bloch_paired"])
def test_maps_are_simulated_in_their_own_units(mode):
    spec = SequenceViews(crop_voxels=8, spread=1, mode=mode).unchanged()
    maps = random_maps(spec)
    region = in_sequences(*maps, contrasts=NAMES, limits=(0.5, 3.0))
    drawn = spec.draw(np.random.default_rng(4))
    sample = spec.cut(region, drawn)
    physical = Maps(*(0.5 + 2.5 * m for m in maps))
    for view, spoiled, clean in zip(drawn, *sample.views_BCIJK, strict=True):
        expected = to_grey(simulate(physical, view.scan), GreyConfig())
        np.testing.assert_allclose(clean[0], expected, atol=1e-4)
        assert np.array_equal(spoiled, clean)
    assert (drawn[0].scan == drawn[1].scan) == (mode != "bloch_paired")
    if mode == "mprage":
        assert drawn[0].scan.sequence == "mprage"


def test_two_sequences_are_one_view_each():
    spec = SequenceViews(crop_voxels=8, spread=1).unchanged()
    first, second = random_maps(spec)[:2]
    sample = spec.cut(in_sequences(first, second), spec.draw(np.random.default_rng(0)))
    assert np.array_equal(sample.views_BCIJK[0][:, 0], [first, second])


def test_views_are_changed_each_on_its_own_and_replayed_by_their_draws():
    region = in_sequences(*random_maps()[:2])
    drawn = SPEC.draw(np.random.default_rng(1))
    first, second = SPEC.cut(region, drawn), SPEC.cut(region, drawn)
    for a, b in zip(first.views_BCIJK, second.views_BCIJK, strict=True):
        assert a.shape == (2, 1, 8, 8, 8)
        assert a.dtype == np.float32
        assert np.array_equal(a, b)
    assert not np.array_equal(*first.views_BCIJK)
    assert not np.array_equal(drawn[0].deformation.matrix_33, drawn[1].deformation.matrix_33)
    batch = SPEC.collate([first, second])
    assert [len(names) for names in SPEC.captions(batch)] == [4, 4]


def test_a_region_that_comes_alone_is_refused():
    with pytest.raises(ValueError, match="two sequences of a region, found none"):
        SPEC.cut(whole(random_maps()[0]), SPEC.draw(np.random.default_rng(0)))


@pytest.fixture
def grouped(make_store, noise):
    """Three groups on grids of their own, one of maps, and a volume alone."""

    def member(shift, **about):
        return noise + np.int16(shift), about

    volumes = {f"g{g}s{s}": member(0, group=f"g{g}") for g in range(2) for s in range(3)}
    maps = {name: member(0, group="maps", contrast=name) for name in NAMES}
    for n, key in enumerate([*volumes, *maps]):
        array, about = (volumes | maps)[key]
        (volumes if key in volumes else maps)[key] = (array + np.int16(n), about)
    return make_store({**volumes, **maps, "alone": noise[::-1]})


def data_of(store, mode="bloch_paired", **options):
    spec = SequenceViews(crop_voxels=8, spread=1, mode=mode, **options).unchanged()
    return CropDataset(store, spec, DatasetConfig(), samples=12, batch_size=2, seed=0)


def test_a_sample_shows_the_same_box_of_two_volumes_of_one_group(grouped):
    data, again = data_of(grouped, mode="sequences"), data_of(CropStore(grouped.path), "sequences")
    assert len(data.keys) == 3
    assert "alone" not in {data.volume_key(n) for n in range(12)}
    shifts = set()
    for n in range(12):
        one, two = data[n].views_BCIJK[0][:, 0] * 2000
        inside = (np.minimum(one, two) > 1) & (np.maximum(one, two) < 1999)
        difference = np.rint((one - two)[inside])
        assert len(set(difference.tolist())) == 1, "one box, one grid"
        shifts.add(difference[0])
        assert np.array_equal(data[n].views_BCIJK[0], again[n].views_BCIJK[0])
    assert 0 not in shifts


def test_groups_that_do_not_serve_are_not_used(grouped):
    assert len(data_of(grouped).keys) == 3
    (first,) = data_of(grouped, "bloch").keys
    assert grouped.entry(first).group == "maps"
    assert sorted(grouped.group(first)) == sorted(NAMES)
    assert grouped.group("alone") == ("alone",)


def test_a_store_without_groups_says_what_to_do(make_store, noise):
    store = make_store({"a": noise, "b": noise[::-1]})
    with pytest.raises(InputError, match="no group of volumes in the split 'train'") as caught:
        data_of(store)
    assert "align_sequences" in str(caught.value.hint)
    few = make_store({"a": (noise, {"group": "g"}), "b": (noise + 1, {"group": "g"})}, "few")
    with pytest.raises(InputError, match="1 groups, none of which serves"):
        data_of(few, "bloch")
