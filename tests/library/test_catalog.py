import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medssl.errors import InputError
from medssl.library.catalog import (
    COLUMNS,
    catalog_digest,
    catalog_path,
    is_current,
    read_catalog,
    write_catalog,
)

PLAIN = {
    pa.string(): "x",
    pa.int8(): 2,
    pa.int32(): 3,
    pa.float64(): 0.5,
    pa.bool_(): False,
    pa.binary(): bytes(range(32)),
    pa.list_(pa.float64()): [float(n) for n in range(16)],
    pa.list_(pa.string()): ["derived"],
}


def row(key, **changes):
    return {name: PLAIN[kind] for name, kind in COLUMNS.items()} | {"volume_key": key} | changes


def test_rows_come_back_sorted_and_with_their_types(tmp_path):
    write_catalog(tmp_path, [row("b"), row("a", flags=[])], "key-id")
    found = read_catalog(tmp_path)
    assert found["volume_key"].tolist() == ["a", "b"]
    assert list(found.columns) == list(COLUMNS)
    assert found["affine_ras"][0].tolist() == list(range(16))
    assert found["dct_full"][0] == bytes(range(32))
    assert [list(flags) for flags in found["flags"]] == [[], ["derived"]]
    assert pq.read_schema(catalog_path(tmp_path)).metadata[b"medssl.key_id"] == b"key-id"


def test_an_empty_catalog_is_one_too(tmp_path):
    write_catalog(tmp_path, [], "key-id")
    assert len(read_catalog(tmp_path)) == 0
    assert catalog_digest(tmp_path)


def test_the_digest_is_of_the_content_alone(tmp_path):
    for name, rows in {"a": [row("a"), row("b")], "b": [row("b"), row("a")]}.items():
        write_catalog(tmp_path / name, rows, "key-id")
    assert catalog_digest(tmp_path / "a") == catalog_digest(tmp_path / "b")
    write_catalog(tmp_path / "b", [row("b"), row("a", mean=0.25)], "key-id")
    assert catalog_digest(tmp_path / "a") != catalog_digest(tmp_path / "b")


@pytest.mark.parametrize("name", COLUMNS)
def test_a_change_of_any_value_changes_the_digest(name, tmp_path):
    kind = COLUMNS[name]
    values = [None]
    if kind == pa.list_(pa.float64()):
        values += [[], [0.0], [0.0, 0.0], [0.0, 1.0]]
    elif kind == pa.list_(pa.string()):
        values += [[], [""], ["", ""], ["ab"], ["a", "b"]]
    elif kind == pa.bool_():
        values += [False, True]
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        values += [text if pa.types.is_string(kind) else text.encode() for text in ("", "a", "b")]
    else:
        values += [0, 1]
    digests = set()
    for value in values:
        table = pa.table({n: pa.array([value if n == name else None], COLUMNS[n]) for n in COLUMNS})
        write_catalog(tmp_path, [], "key-id")
        schema = pq.read_schema(catalog_path(tmp_path))
        pq.write_table(table.cast(schema), catalog_path(tmp_path))
        digests.add(catalog_digest(tmp_path))
    assert len(digests) == len(values)


def test_only_the_columns_of_the_allow_list_pass(tmp_path):
    with pytest.raises(ValueError, match="patient_name"):
        write_catalog(tmp_path, [row("a", patient_name="x")], "key-id")
    short = row("a")
    del short["mean"]
    with pytest.raises(ValueError, match="mean"):
        write_catalog(tmp_path, [short], "key-id")


def test_a_catalog_that_cannot_be_read_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match="medssl ingest"):
        read_catalog(tmp_path)
    pq.write_table(pa.table({"a": [1]}), catalog_path(tmp_path))
    with pytest.raises(InputError, match="format version unknown"):
        read_catalog(tmp_path)


def test_a_damaged_catalog_says_what_to_do(tmp_path):
    write_catalog(tmp_path, [row("a")], "key-id")
    whole = catalog_path(tmp_path).read_bytes()
    for damaged in (whole[: len(whole) // 2], b""):
        catalog_path(tmp_path).write_bytes(damaged)
        for read in (read_catalog, catalog_digest):
            with pytest.raises(
                InputError, match="is damaged\n  hint: run the same `medssl ingest`"
            ):
                read(tmp_path)


def test_the_digest_does_not_depend_on_how_the_file_is_cut(tmp_path):
    write_catalog(tmp_path, [row(f"v{n}") for n in range(20)], "key-id")
    before = catalog_digest(tmp_path)
    table = pq.read_table(catalog_path(tmp_path))
    pq.write_table(table, catalog_path(tmp_path), row_group_size=3)
    assert catalog_digest(tmp_path) == before


def test_a_catalog_of_other_columns_names_them(tmp_path):
    write_catalog(tmp_path, [row("a")], "key-id")
    path = catalog_path(tmp_path)
    pq.write_table(pq.read_table(path).drop(["std", "mean"]), path)
    assert not is_current(tmp_path)
    with pytest.raises(InputError, match=r"has other columns \(mean, std\), this medssl reads"):
        read_catalog(tmp_path)
