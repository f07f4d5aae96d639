import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.curation.containment import MIN_SLICES, SharedSlices, shared_slices


def table_of(volumes, axis=2, foreground=0.5):
    """Slices of volumes: key by key, in order; None is a slice of air."""
    rows = [
        {
            "volume_key": volume,
            "index": index,
            "slice_axis": axis,
            "slice_key": int(key or 0).to_bytes(8, "little"),
            "foreground": 0.0 if key is None else foreground,
        }
        for volume, keys in volumes.items()
        for index, key in enumerate(keys)
    ]
    schema = {
        "volume_key": pa.string(),
        "index": pa.int32(),
        "slice_axis": pa.int8(),
        "slice_key": pa.binary(8),
        "foreground": pa.float32(),
    }
    return pa.Table.from_pylist(rows, schema=pa.schema(schema))


def slow(volumes, at_least, settled=()):
    """Every pair, every offset, slice by slice."""
    found = []
    names = sorted(volumes)
    size = {name: sum(key is not None for key in volumes[name]) for name in names}
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            counts = {
                offset: sum(
                    key is not None and 0 <= n + offset < len(volumes[b])
                    and volumes[b][n + offset] == key
                    for n, key in enumerate(volumes[a])
                )
                for offset in range(-len(volumes[a]), len(volumes[b]) + 1)
            }  # fmt: skip
            best = max(counts.values())
            offset = min(x for x, count in counts.items() if count == best)
            enough = best >= MIN_SLICES and best >= at_least * min(size[a], size[b])
            if enough and not {a, b} <= set(settled):
                found.append(SharedSlices(a, b, 2, offset, best))
    return found


KEYS = st.lists(st.one_of(st.none(), st.integers(1, 12)), min_size=1, max_size=14)
VOLUMES = st.dictionaries(st.sampled_from("abcdef"), KEYS, max_size=5)


@settings(max_examples=40, deadline=None)
@given(VOLUMES, st.sampled_from([0.3, 0.8]), st.sets(st.sampled_from("abcdef")))
def test_shared_slices_equal_their_slow_twin(volumes, at_least, settled):
    table = table_of(volumes)
    assert shared_slices(table, list(volumes), at_least, settled) == slow(
        volumes, at_least, settled
    )


def test_a_part_is_found_at_its_place(tmp_path):
    whole, part = list(range(100, 140)), list(range(110, 130))
    path = tmp_path / "it's slices.parquet"
    pq.write_table(table_of({"b": whole, "a": part, "c": range(500, 540)}), path)
    found = shared_slices(path, ["a", "b", "c"], 0.3)
    assert found == [SharedSlices("a", "b", 2, 10, 20)]
    assert list(tmp_path.iterdir()) == [path]


def test_only_the_volumes_asked_for_count():
    table = table_of({name: range(10) for name in "abc"})
    assert [x[:2] for x in shared_slices(table, ["a", "c"], 0.3)] == [("a", "c")]
    assert shared_slices(table, [], 0.3) == []


def test_other_axes_have_nothing_in_common():
    both = pa.concat_tables([table_of({"a": range(9)}), table_of({"b": range(9)}, axis=0)])
    assert shared_slices(both, ["a", "b"], 0.3) == []


def test_air_joins_nothing():
    table = table_of({name: [7] * 9 for name in "ab"}, foreground=0.01)
    assert shared_slices(table, ["a", "b"], 0.3) == []


def test_a_table_without_keys_joins_nothing_and_says_so(caplog):
    table = table_of({"a": range(9)}).drop_columns(["slice_key"])
    with caplog.at_level(logging.WARNING):
        assert shared_slices(table, ["a"], 0.3) == []
    assert "medssl ingest" in caplog.text


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_and_order_change_nothing(threads):
    rng = np.random.default_rng(0)
    volumes = {f"{n:02d}": rng.integers(0, 200, 30).tolist() for n in range(20)}
    volumes |= {f"part {n}": volumes[f"{n:02d}"][5:25] for n in range(10)}
    table = table_of(volumes)
    shuffled = table.take(pa.array(rng.permutation(len(table))))
    expected = shared_slices(table, list(volumes), 0.3, threads=1)
    assert len(expected) >= 10
    assert shared_slices(shuffled, list(volumes)[::-1], 0.3, threads=threads) == expected
