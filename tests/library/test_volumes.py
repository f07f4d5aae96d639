from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import permutations, product

import blosc2
import numpy as np
import pytest

from medssl.errors import InputError
from medssl.io.geometry import to_closest_ras
from medssl.io.volume import SliceSource, Volume
from medssl.library.volumes import (
    read_picture,
    read_slices,
    read_volume,
    sweep,
    volume_path,
    write_volume,
)
from tests import phantoms

AFFINE = phantoms.affine_ras((5, 4, 3))


def make(dtype=np.int16, shape=(40, 50, 60)):
    array = phantoms.phantom(AFFINE, shape).astype(dtype)
    return Volume(array_IJK=array, affine_ras=AFFINE, modality="CT", intensity="hu")


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32])
def test_a_volume_comes_back_on_the_closest_ras_grid(dtype, tmp_path):
    stored = write_volume(tmp_path, "key", make(dtype))
    found = read_volume(tmp_path, "key")
    assert found.array_IJK.dtype == dtype
    np.testing.assert_array_equal(found.array_IJK, stored.array_IJK)
    np.testing.assert_array_equal(found.affine_ras, stored.affine_ras)
    assert (found.modality, found.intensity) == ("CT", "hu")
    if dtype == np.int16:
        assert phantoms.value_error(found.array_IJK, found.affine_ras) == 0
    assert [p.name for p in (tmp_path / "volumes").iterdir()] == ["key.b2nd"]


def test_a_volume_keeps_the_sources_of_its_slices_and_what_was_resampled(tmp_path):
    sources = tuple(
        SliceSource(file_key=f"f{k // 2}", frame_index=k % 2, instance_key=f"i{k}", filled=k == 3)
        for k in range(7)
    )
    array = np.zeros((5, 6, 7), np.int16)
    sagittal = np.array([[0, 0, -2.0, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    volume = Volume(
        array_IJK=array,
        affine_ras=sagittal,
        modality="MR",
        regularized=("tilt", "filled"),
        slices=sources,
    )
    write_volume(tmp_path, "key", volume)
    record, found = read_slices(tmp_path, "key"), read_volume(tmp_path, "key")
    assert (record.axis, record.sources) == (0, sources[::-1])
    assert (found.slice_axis, found.slices) == (record.axis, record.sources)
    assert found.regularized == ("tilt", "filled")


def test_a_volume_without_slices_has_no_sources(tmp_path):
    write_volume(tmp_path, "key", make())
    assert read_slices(tmp_path, "key").sources == ()
    with pytest.raises(InputError, match="is not in the library"):
        read_slices(tmp_path, "other")


def test_the_file_can_be_read_in_parts(tmp_path):
    stored = write_volume(tmp_path, "key", make())
    file = blosc2.open(str(volume_path(tmp_path, "key")), mode="r")
    meta = file.schunk.meta["medssl"]
    assert (meta["axes"], meta["steps"]) == ([0, 1, 2], [-1, -1, 1])
    np.testing.assert_array_equal(
        file[3:9, 4:5, 6:20], stored.array_IJK[::-1, ::-1][3:9, 4:5, 6:20]
    )


@pytest.mark.parametrize("axes", list(permutations(range(3))))
@pytest.mark.parametrize("shape", [(40, 50, 60), (150, 9, 131)])
@pytest.mark.parametrize("signs", list(product((-1, 1), repeat=3)))
def test_whatever_the_order_in_memory_the_volume_is_the_same(axes, signs, shape, tmp_path):
    flips = tuple(slice(None, None, sign) for sign in signs)
    volume = make(shape=shape)
    flipped = np.ascontiguousarray(volume.array_IJK[flips].transpose(axes))
    lying = flipped.transpose(np.argsort(axes))[flips]
    write_volume(tmp_path, "key", replace(volume, array_IJK=lying))
    found = read_volume(tmp_path, "key")
    np.testing.assert_array_equal(found.array_IJK, to_closest_ras(volume).array_IJK)
    assert (
        found.array_IJK.strides
        == to_closest_ras(replace(volume, array_IJK=lying)).array_IJK.strides
    )


@pytest.mark.parametrize("shape", [(3, 1500, 1700), (1, 1, 1), (700, 30, 20), (2, 3, 4000)])
def test_any_shape_is_stored_in_parts_that_lie_together(shape, tmp_path):
    """Chunks are whole planes, blocks whole rows: nothing is gathered from far apart."""
    array = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    volume = Volume(array_IJK=array, affine_ras=np.eye(4), modality="MR", intensity="arbitrary")
    write_volume(tmp_path, "key", volume)
    np.testing.assert_array_equal(read_volume(tmp_path, "key").array_IJK, array)
    file = blosc2.open(str(volume_path(tmp_path, "key")), mode="r")
    assert file.chunks[1:] == shape[1:]
    assert (file.blocks[0], file.blocks[2]) == (1, shape[2])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
@pytest.mark.parametrize("shape", [(30, 300, 517), (3, 4, 5), (257, 129, 300), (2, 1500, 1700)])
@pytest.mark.parametrize("empty", [False, True])
def test_the_parts_are_packed_as_blosc2_packs_an_array(dtype, shape, empty, tmp_path):
    noise = np.random.default_rng(0).integers(0, 1 if empty else 200, shape)
    volume = Volume(
        array_IJK=noise.astype(dtype), affine_ras=np.eye(4), modality="MR", intensity="arbitrary"
    )
    with ThreadPoolExecutor(3) as pool:
        write_volume(tmp_path, "key", volume, pool=pool)
    ours, path = blosc2.open(str(volume_path(tmp_path, "key"))), str(tmp_path / "theirs.b2nd")
    one_thread = replace(ours.cparams, nthreads=1)  # several take the blocks in any order
    layout = {"chunks": ours.chunks, "blocks": ours.blocks}
    blosc2.asarray(volume.array_IJK, urlpath=path, cparams=one_thread, **layout)
    theirs = blosc2.open(path)
    np.testing.assert_array_equal(ours[:], volume.array_IJK)
    for index in range(ours.schunk.nchunks):
        assert ours.schunk.get_chunk(index) == theirs.schunk.get_chunk(index)


def test_a_picture_is_kept_with_the_volume(tmp_path):
    write_volume(tmp_path, "with", make(), picture=lambda: b"PNG\0")
    write_volume(tmp_path, "without", make())
    assert [read_picture(tmp_path, key) for key in ("with", "without")] == [b"PNG\0", b""]
    with pytest.raises(InputError, match="is not in the library"):
        read_picture(tmp_path, "other")


def test_the_same_volume_gives_the_same_bytes(tmp_path):
    for library in ("a", "b"):
        write_volume(tmp_path / library, "key", make())
    one, other = (volume_path(tmp_path / name, "key").read_bytes() for name in "ab")
    assert one == other


def test_a_missing_volume_and_a_damaged_one_say_what_to_do(tmp_path):
    with pytest.raises(InputError, match="is not in the library"):
        read_volume(tmp_path, "key")
    write_volume(tmp_path, "key", make())
    path = volume_path(tmp_path, "key")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="is damaged"):
        read_volume(tmp_path, "key")


@pytest.mark.filterwarnings("ignore")  # what a decoder warns of in noise is not ours
def test_however_a_volume_is_damaged_the_error_says_what_to_do(tmp_path):
    write_volume(tmp_path, "key", make())
    path, rng = volume_path(tmp_path, "key"), np.random.default_rng(0)
    whole, refused = path.read_bytes(), 0
    for _ in range(150):
        content = bytearray(whole)
        for place in rng.integers(300, size=3):
            content[place] = rng.integers(256)
        path.write_bytes(content)
        try:
            read_volume(tmp_path, "key")
        except InputError:
            refused += 1
    assert refused > 50


def test_sweep_keeps_what_the_catalog_names(tmp_path):
    for key in ("a", "b"):
        write_volume(tmp_path, key, make())
    sweep(tmp_path, keep={"b"})
    assert [p.name for p in (tmp_path / "volumes").iterdir()] == ["b.b2nd"]
