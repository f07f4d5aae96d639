import numpy as np
import pytest

from medssl.data.annotations import (
    annotation_digest,
    annotation_files,
    heat_map,
    organ_map,
    write_annotations,
)
from medssl.data.store import CropStore
from medssl.errors import InputError, RejectedFileError
from medssl.io.nifti import write_nifti
from medssl.io.volume import Volume
from medssl.reports.pairs import Pair

HERE = np.diag([3.0, 3.0, 3.0, 1.0])
LUNG, HEART = (10, 11), (51,)


def pair(study, *keys):
    return Pair(study_key=study, patient_key="p", split="train", volume_keys=keys, sections=())


def label_map(array_IJK, affine_ras=HERE):
    return Volume(
        array_IJK=array_IJK, affine_ras=affine_ras, modality="unknown", intensity="unknown"
    )


@pytest.fixture
def labels():
    labels = np.zeros((40, 37, 21), np.int16)
    labels[5:12, 8:20, 4:15], labels[25:33, 8:20, 4:15], labels[15:20, 15:22, 6:12] = 10, 11, 51
    return labels


@pytest.fixture
def store(make_store, noise):
    return make_store({"a": noise, "b": noise})


def test_a_volume_has_its_own_map_or_that_of_its_study(tmp_path):
    for name in ("a.nii.gz", "s.nii.gz", "stranger.nii"):
        (tmp_path / name).write_bytes(name.encode())
    found = annotation_files(tmp_path, [pair("s", "a", "b"), pair("t", "c")])
    assert {key: path.name for key, path in found.items()} == {"a": "a.nii.gz", "b": "s.nii.gz"}
    digest = annotation_digest(found)
    (tmp_path / "a.nii.gz").write_bytes(b"another")
    assert annotation_digest(found) != digest


@pytest.mark.parametrize("folder", ["empty", "missing"])
def test_a_folder_without_any_is_refused(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no file is named by a volume or a study"):
        annotation_files(tmp_path / folder, [pair("s", "a")])


def test_organs_of_a_map_on_the_same_grid_are_numbered(store, labels):
    placed = organ_map(label_map(labels), store.entry("a"), [LUNG, HEART])
    np.testing.assert_array_equal(placed, np.where(labels == 51, 2, labels > 0))
    assert placed.dtype == np.uint8


def test_a_map_lies_where_its_affine_says(store, labels):
    """Axes in another order and direction, voxels three times as fine along one of them."""
    fine_KIJ = np.repeat(labels[::-1], 3, axis=1).transpose(2, 0, 1)
    affine = np.array([[0, -3, 0, 3 * 39], [0, 0, 1, -1], [3, 0, 0, 0], [0, 0, 0, 1.0]])
    placed = organ_map(label_map(fine_KIJ, affine), store.entry("a"), [LUNG, HEART])
    np.testing.assert_array_equal(placed, np.where(labels == 51, 2, labels > 0))


def test_an_organ_that_the_volume_cuts_off_is_left_out(store, labels):
    labels[5:12, 8:20, 15:] = 10
    placed = organ_map(label_map(labels), store.entry("a"), [LUNG, HEART])
    assert np.unique(placed).tolist() == [0, 2]


def test_a_map_that_ends_before_the_volume_has_nothing_there(store, labels):
    placed = organ_map(label_map(labels[:14]), store.entry("a"), [LUNG, HEART])
    assert (placed[5:12, 8:20, 4:15] == 1).all()
    assert not placed[14:].any()


def test_heat_is_interpolated_and_its_most_is_one(store):
    heat = np.zeros((20, 19, 11), np.float32)
    heat[10, 9, 5] = 40.0
    placed = heat_map(label_map(heat, np.diag([6.0, 6.0, 6.0, 1.0])), store.entry("a"))
    assert placed.shape == store.entry("a").shape
    assert placed[20, 18, 10] == placed.max() == 1.0
    assert placed[21, 18, 10] == pytest.approx(0.5)


def test_heat_below_zero_is_refused(store):
    with pytest.raises(RejectedFileError, match="0 and more"):
        heat_map(label_map(np.full((4, 4, 4), -1.0, np.float32)), store.entry("a"))


def test_maps_become_a_store_of_the_same_keys_once(store, labels, tmp_path):
    write_nifti(labels, HERE, tmp_path / "a.nii.gz")
    files = {"a": tmp_path / "a.nii.gz"}
    placed = []

    def place(volume, entry):
        placed.append(entry.volume_key)
        return organ_map(volume, entry, [LUNG, HEART])

    for _ in range(2):
        write_annotations(tmp_path / "organs", store, files, place)
    assert placed == ["a"]
    maps = CropStore(tmp_path / "organs")
    assert "b" not in maps
    start, size = (-4, 10, 3), (20, 12, 12)
    expected = np.pad(np.where(labels == 51, 2, labels > 0), ((4, 0), (0, 0), (0, 0)))
    np.testing.assert_array_equal(maps.read("a", start, size), expected[:20, 10:22, 3:15])
    assert maps.entry("a").affine_ras == store.entry("a").affine_ras


def test_a_damaged_map_is_named_by_its_volume(store, tmp_path):
    path = tmp_path / "someone.nii.gz"
    path.write_bytes(b"no NIfTI")
    with pytest.raises(InputError, match="the map of volume a cannot be used") as refused:
        write_annotations(tmp_path / "organs", store, {"a": path}, heat_map)
    assert "someone" not in str(refused.value)
