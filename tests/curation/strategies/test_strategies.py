"""Each strategy beside a slow twin, and what all of them share."""

import math

import imagehash
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from skimage.metrics import structural_similarity

from medssl.config.choice import available, find
from medssl.curation.slices import VolumeSlices
from medssl.curation.strategies.base import Leader
from medssl.curation.strategies.embedding import Embedding, principal_components
from medssl.curation.strategies.hash import Hash
from medssl.curation.strategies.information import Information
from medssl.curation.strategies.matched_k import MatchedK
from medssl.curation.strategies.ssim import Ssim
from medssl.errors import InputError
from tests.curation.libraries import blobs, read_shipped

STRATEGIES = "medssl.curation.strategies"
NAMES = available(STRATEGIES)


@pytest.fixture(scope="module")
def torso():
    from pathlib import Path

    shipped = Path(__file__).resolve().parents[2] / "data/nifti"
    return VolumeSlices.of(read_shipped(shipped / "ct/tsct_p01_body.nii.gz"))


@pytest.mark.parametrize("name", NAMES)
def test_every_strategy_keeps_some_and_explains_the_rest(name, torso):
    config = find(STRATEGIES, name).Config()
    found = config.build().reduce(torso)
    assert 0 < found.kept.sum() < len(torso)
    assert len(found.reasons) == len(torso)
    shown = np.flatnonzero(found.representative >= 0)
    assert found.kept[found.representative[shown]].all()
    apart_mm = torso.positions_mm[shown] - torso.positions_mm[found.representative[shown]]
    assert np.abs(apart_mm).max() <= config.max_gap_mm + 1e-3
    assert np.isfinite(found.score[shown]).all()
    again = config.build().reduce(torso)
    np.testing.assert_array_equal(found.kept, again.kept)
    np.testing.assert_array_equal(found.score, again.score)


@pytest.mark.parametrize("name", NAMES)
def test_slices_of_air_are_left_out_and_a_volume_of_air_keeps_something(name, torso):
    volume = blobs(1)
    array = volume.array_IJK.copy()
    array[:, :, :4] = array[:, :, -4:] = -1000
    padded = VolumeSlices.of(
        type(volume)(array_IJK=array, affine_ras=volume.affine_ras, modality="CT", intensity="hu")
    )
    strategy = find(STRATEGIES, name).Config().build()
    found = strategy.reduce(padded)
    assert set(found.reasons[:4]) | set(found.reasons[-4:]) == {"air"}
    array[:] = -1000
    empty = VolumeSlices.of(
        type(volume)(array_IJK=array, affine_ras=volume.affine_ras, modality="CT", intensity="hu")
    )
    assert strategy.reduce(empty).kept.any()


def test_the_two_ends_of_a_head_never_stand_for_each_other():
    """Hash-6 as published merged slices 153 mm apart."""
    volume = blobs(1, shape=(24, 24, 60), spacing_mm=3.0)
    array = volume.array_IJK.copy()
    array[:, :, -20:] = array[:, :, :20]  # what lies at the one end lies at the other too
    ends = VolumeSlices.of(
        type(volume)(array_IJK=array, affine_ras=volume.affine_ras, modality="CT", intensity="hu")
    )

    def farthest_mm(**guards):
        found = Hash.Config(kind="dhash64", **guards).build().reduce(ends)
        shown = np.flatnonzero(found.representative >= 0)
        return np.abs(
            ends.positions_mm[shown] - ends.positions_mm[found.representative[shown]]
        ).max()

    assert farthest_mm(max_gap_mm=1000, min_foreground=0) > 100
    assert farthest_mm() <= 12


def test_hash_compares_bits(torso):
    for kind, bits in (("dct256", 256), ("dhash64", 64)):
        strategy = Hash.Config(kind=kind).build()
        described = strategy.describe(torso)
        others = np.arange(5, 9)
        numbers = [int.from_bytes(row.tobytes(), "little") for row in described]
        slow = [(numbers[0] ^ numbers[o]).bit_count() for o in others]
        assert strategy.scores(described, 0, others).tolist() == slow
        assert 0 < max(slow) <= bits


def test_dhash64_sees_slices_as_viewers_show_them(torso):
    described = Hash.Config(kind="dhash64").build().describe(torso)[:, 0]
    plane = torso.volume.array_IJK[:, :, 40].astype(np.int64)
    stretched = (plane - plane.min()) * 255 // (plane.max() - plane.min())
    shown = stretched.astype(np.uint8)[::-1, ::-1].T  # rows to the back, columns to the left
    assert int(str(imagehash.dhash(Image.fromarray(shown))), 16) == int(described[40])


def test_lexicographic_order_is_that_of_file_names(torso):
    order = Hash.Config(order="lexicographic").build().ranking(torso)
    names = [f"slice_{n}" for n in range(len(torso))]
    assert [f"slice_{n}" for n in order] == sorted(names)
    assert order[:4] == [0, 1, 10, 11]


def test_ssim_is_scikit_images(torso):
    strategy = Ssim.Config().build()
    described = strategy.describe(torso)
    pixels = described.pixels_NHW.astype(np.uint8)
    others = np.array([3, 10, 40, 60])
    expected = [
        structural_similarity(pixels[3], pixels[o], data_range=255, win_size=7) for o in others
    ]
    np.testing.assert_allclose(strategy.scores(described, 3, others), expected, atol=1e-9)


def slow_information(a, b):
    """From probabilities, in the words of the formula."""
    pairs = list(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))

    def entropy(values):
        counts = {value: values.count(value) for value in set(values)}
        return -sum(c / len(values) * math.log2(c / len(values)) for c in counts.values())

    h_a, h_b = entropy([p for p, _ in pairs]), entropy([q for _, q in pairs])
    return 2 * (h_a + h_b - entropy(pairs)) / (h_a + h_b)


def test_information_is_shared_entropy():
    slices = VolumeSlices.of(blobs(2, shape=(12, 13, 20)))
    strategy = Information.Config().build()
    described = strategy.describe(slices)
    others = np.array([6, 7, 12])
    bins = (slices.levels >> 10).astype(int)
    expected = [slow_information(bins[6], bins[o]) for o in others]
    np.testing.assert_allclose(strategy.scores(described, 6, others), expected, atol=1e-12)
    assert expected[0] == pytest.approx(1)


def test_slices_of_one_value_are_flat():
    volume = blobs(1)
    array = volume.array_IJK.copy()
    array[:, :, :3] = 40
    made = type(volume)(
        array_IJK=array, affine_ras=volume.affine_ras, modality="CT", intensity="hu"
    )
    found = Information.Config().build().reduce(VolumeSlices.of(made))
    assert found.reasons[:3] == ("flat",) * 3


def test_principal_components_keep_the_distances_and_order_of_variance():
    cells = np.random.default_rng(0).integers(0, 65536, (7, 4, 5))
    found = principal_components(cells, 20)
    centred = cells.reshape(7, -1) - cells.reshape(7, -1).mean(axis=0)
    np.testing.assert_allclose(found @ found.T, centred @ centred.T, rtol=1e-6, atol=1e3)
    variance = (found**2).sum(axis=0)
    assert (np.diff(variance) <= 1e-3 * variance[0]).all()
    singular = np.linalg.svd(centred, compute_uv=False)
    np.testing.assert_allclose(variance[:6], singular[:6] ** 2, rtol=1e-6)


def test_a_table_of_embeddings_decides(torso, tmp_path):
    angles = np.linspace(0, np.pi, len(torso))
    rows = {
        "volume_key": [""] * len(torso),
        "index": list(range(len(torso)))[::-1],
        "embedding": np.stack([np.cos(angles), np.sin(angles)], axis=1)[::-1].tolist(),
    }
    pq.write_table(pa.table(rows), tmp_path / "e.parquet")
    config = Embedding.Config(table=tmp_path / "e.parquet", min_cosine=0.9, max_gap_mm=1e6)
    found = config.build().reduce(torso)
    step = math.ceil(math.acos(0.9) / (math.pi / (len(torso) - 1)))
    assert np.flatnonzero(found.kept).tolist() == list(range(0, len(torso), step))
    assert config.build().spec == "embedding.table/1"


def test_a_table_that_does_not_fit_says_so(torso, tmp_path):
    pq.write_table(
        pa.table({"volume_key": [""], "index": [0], "embedding": [[1.0]]}), tmp_path / "e.parquet"
    )
    strategy = Embedding.Config(table=tmp_path / "e.parquet").build()
    with pytest.raises(InputError, match=r"holds 1 embeddings .* one for each of its 67 slices"):
        strategy.reduce(torso)
    (tmp_path / "bad.parquet").write_text("no table")
    with pytest.raises(InputError, match="no Parquet file with the columns volume_key, index"):
        Embedding.Config(table=tmp_path / "bad.parquet").build().reduce(torso)


def test_a_control_counts_for_any_strategy_named(torso):
    section = {"name": "matched_k", "like": {"name": "ssim"}, "placement": "even"}
    config = MatchedK.Config.model_validate({k: v for k, v in section.items() if k != "name"})
    assert isinstance(config.like, Ssim.Config)
    expected = Ssim.Config().build().reduce(torso).kept.sum()
    assert config.build().reduce(torso).kept.sum() == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_gap_of_nothing_is_refused(name):
    with pytest.raises(ValidationError):
        TypeAdapter(find(STRATEGIES, name).Config).validate_python({"max_gap_mm": 0})


def test_the_interface_asks_for_what_a_strategy_must_bring(torso):
    class Nothing(Leader):
        class Config(Leader.Config):
            pass

    with pytest.raises(NotImplementedError):
        Nothing(Nothing.Config()).reduce(torso)
