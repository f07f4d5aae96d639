"""The table of slices is put together lot by lot, and is the same however it came about."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medssl.errors import InputError
from medssl.io.volume import SliceSource, Volume
from medssl.library import slices
from medssl.library.fingerprints.perceptual import perceptual
from medssl.library.volumes import volume_path, write_volume

KEYS = [f"v{n:02d}" for n in range(11)]


def store(library, key):
    number = int(key[1:])
    rng = np.random.default_rng(number)
    sources = tuple(
        SliceSource(
            file_key=f"f{key}{k}", frame_index=k % 2 or None, instance_key="i", filled=k == 1
        )
        for k in range(3 + number % 3)
    )
    volume = Volume(
        array_IJK=rng.integers(-1000, 500, (40, 36, len(sources))).astype(np.int16),
        affine_ras=np.eye(4),
        modality="CT",
        intensity="hu",
        slices=sources if number % 2 else (),
    )
    array = volume.array_IJK
    looks = (lambda: perceptual(array, "hu", 2)) if number != 4 else None
    write_volume(library, key, volume, perceptual=looks)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("library")
    for key in KEYS:
        store(folder, key)
    return folder


@pytest.fixture(scope="module")
def whole(library):
    slices.write_slices(library, KEYS, fresh=KEYS)
    return slices.read_slice_rows(library)


def test_rows_are_sorted_and_of_the_types_that_are_told(whole):
    assert whole.schema.equals(pa.schema(slices.COLUMNS.items()))
    rows = whole.select(["volume_key", "index"]).to_pylist()
    assert rows == sorted(rows, key=lambda row: (row["volume_key"], row["index"]))
    assert len(rows) == sum(3 + n % 3 for n in range(11))


def test_a_volume_without_signatures_has_rows_and_no_keys(whole):
    part = whole.filter(pa.compute.equal(whole["volume_key"], "v04"))
    assert part["slice_key"].null_count == part["foreground"].null_count == len(part) == 4
    assert part["slice_digest"].null_count == 0


@pytest.mark.parametrize("at_once", [1, 2, 7, 256])
def test_the_table_does_not_depend_on_what_is_in_memory_at_once(
    at_once, library, whole, monkeypatch
):
    monkeypatch.setattr(slices, "_VOLUMES_AT_ONCE", at_once)
    slices.write_slices(library, reversed(KEYS), fresh=KEYS)
    assert slices.read_slice_rows(library).equals(whole)
    assert pq.ParquetFile(library / slices.FILE).num_row_groups == -(-len(KEYS) // at_once)
    slices.write_slices(library, KEYS[::2], fresh=())
    slices.write_slices(library, KEYS, fresh=["v02"])
    assert slices.read_slice_rows(library).equals(whole)


def test_kept_rows_come_from_the_table_and_others_from_the_volumes(library, whole, monkeypatch):
    slices.write_slices(library, KEYS[:6], fresh=KEYS)
    read, original = [], slices.read_slices
    monkeypatch.setattr(slices, "read_slices", lambda *a: read.append(a[1]) or original(*a))
    slices.write_slices(library, KEYS, fresh=["v03"])
    assert read == ["v03", *KEYS[6:]]
    assert slices.read_slice_rows(library).equals(whole)


@pytest.mark.parametrize("harm", [slice(200, 900), slice(500, 501)])
def test_a_table_damaged_within_is_made_again_where_it_is_needed(harm, library, whole):
    slices.write_slices(library, KEYS, fresh=KEYS)
    path = library / slices.FILE
    content = bytearray(path.read_bytes())
    content[harm] = bytes(byte ^ 255 for byte in content[harm])
    path.write_bytes(content)
    with pytest.raises(InputError, match="is damaged") as error:
        slices.read_slice_rows(library)
    assert "delete slices.parquet" in error.value.hint
    with pytest.raises(InputError, match="is damaged"), slices.damage_named(path):
        raise ZeroDivisionError  # whatever a database makes of it
    slices.write_slices(library, KEYS, fresh=())
    assert slices.read_slice_rows(library).equals(whole)


def test_a_damaged_volume_has_no_rows_and_is_named(library, whole, tmp_path):
    for key in KEYS[:3]:
        store(tmp_path, key)
    path = volume_path(tmp_path, "v01")
    path.write_bytes(path.read_bytes()[:200])
    assert slices.write_slices(tmp_path, KEYS[:3], fresh=KEYS) == ["v01"]
    found = slices.read_slice_table(tmp_path)
    assert set(found["volume_key"]) == {"v00", "v02"}


def test_an_empty_library_has_an_empty_table(tmp_path):
    assert slices.write_slices(tmp_path, [], fresh=[]) == []
    assert slices.is_current(tmp_path)
    assert len(slices.read_slice_table(tmp_path)) == 0


def test_a_failure_that_is_not_the_tables_own_is_told_as_it_is(library, whole):
    slices.write_slices(library, KEYS, fresh=KEYS)
    with pytest.raises(ZeroDivisionError), slices.damage_named(library / slices.FILE):
        raise ZeroDivisionError


def test_a_part_of_the_table_can_be_read(library, whole):
    slices.write_slices(library, KEYS, fresh=KEYS)
    wanted = [("volume_key", "in", ["v03", "v05"])]
    part = slices.read_slice_rows(library, ["volume_key", "index"], wanted)
    assert part["volume_key"].to_pylist() == ["v03"] * 3 + ["v05"] * 5
