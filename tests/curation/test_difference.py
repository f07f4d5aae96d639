import csv

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medssl.curation.curate import curate
from medssl.curation.difference import changes, count_changes, write_changes
from medssl.curation.ledger import LEDGER_COLUMNS
from medssl.curation.selection import selection_folder
from medssl.errors import InputError
from tests.curation.libraries import Scan, blobs, curate_config, resampled, write_library


def ledger(folder, **rows):
    folder.mkdir()
    blank = dict.fromkeys(LEDGER_COLUMNS, "") | {"score": None, "threshold": None}
    told = [
        blank | {"item": key, "level": "volume", "voxel_digest": f"voxels of {key}"} | row
        for key, row in rows.items()
    ]
    schema = pa.schema(list(LEDGER_COLUMNS.items()))
    pq.write_table(pa.Table.from_pylist(told, schema=schema), folder / "ledger.parquet")
    return folder


def kept(split="train", **more):
    return {"decision": "keep", "split": split, "reason_code": "no_copy_found"} | more


def out(code, beside="", decision="drop"):
    return {"decision": decision, "reason_code": code, "representative": beside}


def test_every_kind_of_change(tmp_path):
    before = ledger(
        tmp_path / "a",
        same=kept(),
        moved=kept("train"),
        left=kept("val"),
        went=kept(),
        other=out("resampled", "same"),
        equal=out("spacing", decision="exclude"),
        changed=kept(),
        entered=out("spacing", decision="exclude"),
    )
    after = ledger(
        tmp_path / "b",
        same=kept(reason_code="stands_for_others"),
        moved=kept("test"),
        left=out("withdrawn", decision="exclude"),
        other=out("resampled", "moved"),
        equal=out("spacing", decision="exclude"),
        changed=kept(voxel_digest="others"),
        entered=kept(),
        fresh=kept(),
        fresh_out=out("modality", decision="exclude"),
    )
    told = {(c.change, c.item): (c.before, c.after) for c in changes(before, after)}
    assert told == {
        ("moved", "moved"): ("kept in train", "kept in test"),
        ("left", "left"): ("kept in val", "exclude: withdrawn"),
        ("left", "went"): ("kept in train", "not there"),
        ("other reason", "other"): ("drop: resampled beside same", "drop: resampled beside moved"),
        ("changed", "changed"): ("kept in train", "kept in train"),
        ("entered", "entered"): ("exclude: spacing", "kept in train"),
        ("entered", "fresh"): ("not there", "kept in train"),
        ("new, not kept", "fresh_out"): ("not there", "exclude: modality"),
    }
    counts, first = count_changes(changes(before, after), keep=1)
    assert counts["left"] == counts["entered"] == 2
    assert len(first) == 6
    write_changes(tmp_path / "c.csv", changes(before, after))
    with (tmp_path / "c.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 8


def test_two_real_selections(tmp_path):
    scans = {"a": Scan(blobs(1)), "b": Scan(resampled(blobs(1), 1.3)), "c": Scan(blobs(2))}
    library = write_library(tmp_path / "lib", scans)
    curate(curate_config(library, "one"))
    curate(curate_config(library, "two", withdraw=["a"]))
    one, two = (selection_folder(library, name) for name in ("one", "two"))
    assert list(changes(one, one)) == []
    assert {(c.change, c.item) for c in changes(one, two)} == {("left", "a"), ("entered", "b")}


def test_a_damaged_ledger_says_what_to_do(tmp_path):
    good = ledger(tmp_path / "a", x=kept())
    bad = ledger(tmp_path / "b", x=kept())
    (bad / "ledger.parquet").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"ledger in .* is damaged\n  hint: run the same"):
        list(changes(good, bad))
