"""Released selections: nothing is lost to a newcomer, what is withdrawn is gone everywhere."""

import pandas as pd
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from medssl.curation.curate import curate, decide
from medssl.curation.ledger import root_of
from medssl.curation.release import release_digest
from medssl.curation.selection import read_selection, selection_folder, withdrawn_keys
from medssl.errors import FolderError, InputError
from medssl.library.catalog import catalog_path, read_catalog_table
from medssl.runs.manifest import Manifest
from tests.curation.libraries import Scan, blobs, curate_config, resampled, write_library

OLD = {
    "fine": Scan(blobs(1), "one"),
    "coarse": Scan(resampled(blobs(1), 1.3), "one"),
    "twin": Scan(resampled(blobs(1), 1.3), "one"),
    "other": Scan(resampled(blobs(2), 1.3), "two"),
    "thin": Scan(blobs(3, shape=(30, 28, 6)), "three"),
    "third": Scan(blobs(4), "four"),
}
NEW = {
    "better": Scan(blobs(2), "stranger"),  # of `other`, and it would rank before it
    "follows": Scan(blobs(7), "four"),
    "alone": Scan(blobs(8), "five"),
}


def ledger(library, name):
    return pd.read_parquet(selection_folder(library, name) / "ledger.parquet").set_index("item")


def kept(library, name):
    return read_selection(library, name).kept.set_index("volume_key")


@pytest.fixture
def library(tmp_path):
    return write_library(tmp_path / "lib", OLD)


@pytest.fixture
def grown(library):
    curate(curate_config(library, "v1", release=True))
    return write_library(library, OLD | NEW)


def test_a_released_selection_is_never_replaced(library):
    curate(curate_config(library, "v1"))
    folder = curate(curate_config(library, "v1", release=True)).folder  # said afterwards
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    again = curate(curate_config(library, "v1"))
    assert again.skipped
    changed = curate_config(library, "v1", splits={"seed": 5})
    with pytest.raises(FolderError, match="'v1' is released: it is never changed or replaced"):
        curate(changed, overwrite=True)
    with pytest.raises(FolderError, match="released"):
        curate(curate_config(library, "v1"), overwrite=True)
    assert before == {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def test_nothing_is_lost_to_a_newcomer(grown):
    result = curate(curate_config(grown, "v2", based_on="v1"))
    old, new = kept(grown, "v1"), kept(grown, "v2")
    assert set(new.index) == {"fine", "other", "third", "follows", "alone"}
    assert old["split"].to_dict().items() <= new["split"].to_dict().items()
    assert new.loc["follows", "split"] == new.loc["third", "split"]
    told = ledger(grown, "v2")
    assert told.loc["better", "decision"] == "drop"
    assert told.loc["better", "supersedes"] == "other"
    assert told.loc["coarse", "representative"] == "fine"
    assert result.summary["supersede_suggestions"] == 1
    fresh = decide(curate_config(grown))
    assert "better" in fresh.kept  # without a promise the newcomer takes the place
    assert "other" not in fresh.kept


def test_decisions_of_a_release_stand_whatever_the_rules_are_now(grown):
    rules = [{"name": "slice_count", "at_least": 4}]
    curate(curate_config(grown, "v2", based_on="v1", rules=rules))
    told = ledger(grown, "v2")
    assert told.loc["thin", "decision"] == "exclude"
    assert told.loc["thin", "reason"] == ledger(grown, "v1").loc["thin", "reason"]


def test_one_after_the_other_is_as_all_at_once_in_the_order_of_arrival(tmp_path):
    """What is kept by adding scans day by day is what the first of each set of copies would be."""
    days = [
        {"a": Scan(resampled(blobs(1), 1.3), "p"), "b": Scan(blobs(2), "q")},
        {"c": Scan(blobs(1), "r"), "d": Scan(resampled(blobs(2), 1.4), "s")},
        {"e": Scan(resampled(blobs(1), 1.25), "t"), "f": Scan(blobs(3), "u")},
    ]
    scans, base = {}, None
    for number, day in enumerate(days):
        scans |= day
        library = write_library(tmp_path / "lib", scans)
        curate(curate_config(library, f"day{number}", based_on=base, release=True))
        base = f"day{number}"
    assert set(kept(library, base).index) == {"a", "b", "f"}
    assert ledger(library, base)["representative"].to_dict() == {
        "a": "", "b": "", "c": "a", "d": "b", "e": "a", "f": "",
    }  # fmt: skip


def test_a_newcomer_that_ties_splits_together_waits_for_a_person(tmp_path):
    people = {f"v{n}": Scan(blobs(n), f"p{n}") for n in range(1, 7)}
    library = write_library(tmp_path / "lib", people)
    halves = {"splits": {"val": 0.5, "test": 0.0}}
    curate(curate_config(library, "v1", release=True, **halves))
    split = kept(library, "v1")["split"]
    train, val = (split[split == s].index[0] for s in ("train", "val"))
    # One of them comes again under the other's name, with a scan that is new.
    again = Scan(resampled(people[val].volume, 1.3), people[train].patient)
    newcomers = {
        "again": again,
        "new": Scan(blobs(20), people[train].patient),
        "free": Scan(blobs(9), "p9"),
    }
    library = write_library(tmp_path / "lib", people | newcomers)
    curate(curate_config(library, "v2", based_on="v1", **halves))
    after, told = kept(library, "v2"), ledger(library, "v2")
    assert after["split"][split.index].to_dict() == split.to_dict()
    assert set(after.index) - set(split.index) == {"free"}
    assert told.loc["again", "representative"] == val
    assert told.loc["new", "decision"] == "review"
    assert told.loc["new", "reason_code"] == "ties_splits_together"


def test_pairs_that_were_judged_by_other_settings_are_no_base(grown):
    config = curate_config(grown, "v2", based_on="v1", near_duplicate={"max_bits": 40})
    with pytest.raises(InputError, match="other settings of near_duplicate"):
        curate(config)


def test_withdrawn_volumes_are_gone_and_the_next_takes_the_place(grown):
    curate(curate_config(grown, "v2", based_on="v1", withdraw=["fine", "five"]))
    new, told = kept(grown, "v2"), ledger(grown, "v2")
    assert set(new.index) & {"coarse", "twin"}  # the next-ranked alternate
    assert not set(new.index) & {"fine", "alone"}
    assert told.loc[["fine", "alone"], "reason_code"].tolist() == ["withdrawn"] * 2
    promoted = next(iter(set(new.index) & {"coarse", "twin"}))
    assert new.loc[promoted, "split"] == kept_before(grown, "v1").loc["fine", "split"]
    edges = pd.read_parquet(selection_folder(grown, "v2") / "edges.parquet")
    assert not {"fine", "alone"} & (set(edges["volume_a"]) | set(edges["volume_b"]))


def kept_before(library, name):
    return pd.read_parquet(selection_folder(library, name) / "kept.parquet").set_index("volume_key")


def test_what_was_withdrawn_stays_so_and_older_selections_are_refused(grown):
    curate(curate_config(grown, "v2", based_on="v1", withdraw=["two"], release=True))
    assert withdrawn_keys(grown) == {"two"}
    with pytest.raises(InputError, match="'v1' holds 1 volume"):
        read_selection(grown, "v1")
    for later in (curate_config(grown, "v3", based_on="v2"), curate_config(grown, "fresh")):
        curate(later)
        assert "other" not in kept(grown, later.name).index
    assert "better" in kept(grown, "v2").index  # the copy by another name takes the place


def test_a_key_that_names_nothing_withdraws_nothing(grown):
    with pytest.raises(InputError, match="1 of the withdrawn keys name no volume or patient"):
        curate(curate_config(grown, "v2", withdraw=["fine", "typo"]))
    assert withdrawn_keys(grown) == set()


def test_keys_may_come_from_a_file(tmp_path):
    (tmp_path / "gone.txt").write_text("one\n\nfine\n")
    assert curate_config(tmp_path, withdraw=tmp_path / "gone.txt").withdraw == ("one", "fine")
    with pytest.raises(ValidationError, match="there is no file"):
        curate_config(tmp_path, withdraw="typo.txt")


def test_a_volume_that_changed_or_went_is_no_longer_promised(grown):
    changed = OLD | {"fine": Scan(blobs(11), "one")}
    del changed["third"]
    library = write_library(grown, changed)
    curate(curate_config(library, "v2", based_on="v1"))
    new = kept(library, "v2")
    assert {"fine", "other"} <= set(new.index)
    assert set(new.index) & {"coarse", "twin"}  # nothing stands for them any more
    assert "third" not in new.index


def test_only_a_released_and_untouched_selection_can_be_built_on(library):
    folder = curate(curate_config(library, "v1")).folder
    with pytest.raises(InputError, match="'v1' is not released"):
        curate(curate_config(library, "v2", based_on="v1"))
    curate(curate_config(library, "v1", release=True))
    assert release_digest(library, "v1")
    table = pq.read_table(folder / "ledger.parquet")
    pq.write_table(table.slice(1), folder / "ledger.parquet")
    with pytest.raises(InputError, match=r"ledger.parquet of the released selection 'v1' .* chang"):
        curate(curate_config(library, "v2", based_on="v1"))


def test_the_root_of_the_ledger_is_that_of_the_manifest(grown):
    folder = curate(curate_config(grown, "v2", based_on="v1")).folder
    manifest = Manifest.read(folder)
    assert root_of(folder) == manifest.outputs["ledger"]
    table = read_catalog_table(grown)
    pq.write_table(table.take(list(range(len(table)))[::-1]), catalog_path(grown))
    again = curate(curate_config(grown, "v2b", based_on="v1")).folder
    assert root_of(again) == root_of(folder)
