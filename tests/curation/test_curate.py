from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from medssl.config.load import load
from medssl.curation.catalog_rows import CatalogRows
from medssl.curation.curate import CurateConfig, curate, decide
from medssl.curation.selection import read_selection
from medssl.errors import FolderError, InputError
from medssl.library.catalog import read_catalog, read_catalog_table
from medssl.library.volumes import volume_path
from medssl.runs.tracking import TrackingConfig
from tests.curation.libraries import (
    Scan,
    altered,
    blobs,
    curate_config,
    deformed,
    read_shipped,
    resampled,
    write_library,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def planted(tmp_path):
    """Two people with a copy of each kind, a follow-up, and what rules exclude."""
    first, second = blobs(1), blobs(2)
    re_exported = replace(
        first,
        array_IJK=first.array_IJK.astype(np.float32),
        affine_ras=np.diag([2.0, 2.0, 2.0, 1.0]),
    )
    scans = {
        "a_original": Scan(first, "one", "s1", "f1", "dicom"),
        "b_same_file": Scan(first, "one", "s1", "f1"),
        "c_re_export": Scan(re_exported, "stranger"),
        "d_resampled": Scan(resampled(first, 1.3), "other name"),
        "e_follow_up": Scan(deformed(first, by_mm=1.0), "one", "s2", "", "dicom"),
        "f_second": Scan(second, "two"),
        "g_thin": Scan(replace(second, array_IJK=second.array_IJK[:, :, :5]), "two"),
        "h_air": Scan(altered(second, np.full(second.shape, -1000)), "three"),
        "i_pet": Scan(replace(blobs(3), modality="PT", intensity="arbitrary"), "four"),
    }
    return write_library(tmp_path / "lib", scans)


def test_the_report_shows_patients_and_is_not_sent_to_mlflow(planted, tmp_path):
    result = curate(curate_config(planted, tracking=TrackingConfig()))
    assert (result.folder / result.look_at["report"]).is_file()
    sent = {path.name for path in tmp_path.rglob("mlartifacts/**/look_at/*")}
    assert sent == {"kept.parquet", "ledger.parquet", "borderline.csv"}


def test_every_volume_ends_with_a_decision_and_a_reason(planted):
    result = curate(curate_config(planted))
    selection = read_selection(planted, "all")
    ledger = pd.read_parquet(planted / "selections/all/ledger.parquet").set_index("item")
    assert list(ledger.index) == list(read_catalog(planted)["volume_key"])
    excluded = ledger[ledger["decision"] != "keep"]
    assert sorted(selection.kept["volume_key"]) == ["a_original", "e_follow_up", "f_second"]
    assert excluded["reason_code"].to_dict() == {
        "b_same_file": "identical",
        "c_re_export": "re_export",
        "d_resampled": "resampled",
        "g_thin": "slice_count",
        "h_air": "constant_or_empty",
        "i_pet": "modality",
    }
    assert "field of view 15 mm" in excluded.loc["g_thin", "reason"]  # all objections are told
    copies = excluded[excluded["representative"] != ""]
    assert set(copies["representative"]) == {"a_original"}
    assert (copies["score"] >= copies["threshold"]).all()
    kept = selection.kept.set_index("volume_key")
    assert list(kept.loc["a_original", "alternates"]) == [
        "b_same_file",
        "c_re_export",
        "d_resampled",
    ]
    assert result.summary["kept"] == 3
    assert result.summary["out: resampled"] == 1
    for path in result.look_at.values():
        assert (result.folder / path).is_file()


def test_a_follow_up_is_kept_and_shares_the_split(planted):
    curate(curate_config(planted, splits={"val": 0.3, "test": 0.3}))
    kept = read_selection(planted, "all").kept.set_index("volume_key")
    assert kept.loc["a_original", "split"] == kept.loc["e_follow_up", "split"]
    pairs = pd.read_parquet(planted / "selections/all/edges.parquet")
    follow_up = pairs[pairs["volume_b"] == "e_follow_up"].set_index("volume_a")
    assert follow_up.loc["a_original", "kind"] == "same_patient"
    assert not follow_up.loc["a_original", "drops"]


def test_copies_join_the_patients_they_carry(tmp_path):
    """One person under two names: the copy tells, also after it was dropped."""
    scan, other = blobs(1), blobs(2)
    scans = {
        "a": Scan(scan, "one"),
        "b": Scan(resampled(scan, 1.3), "alias of one"),
        "c": Scan(other, "alias of one"),
    }
    library = write_library(tmp_path / "lib", scans)
    decisions = decide(curate_config(library))
    assert decisions.representative == {"b": "a"}
    assert decisions.group["a"] == decisions.group["c"]
    assert decisions.split["a"] == decisions.split["c"]


def test_a_twin_of_a_dropped_volume_is_represented_by_what_is_kept(tmp_path):
    fine, coarse = blobs(1), resampled(blobs(1), 1.3)
    scans = {"a": Scan(coarse, "p"), "b": Scan(coarse, "q"), "c": Scan(fine, "r")}
    library = write_library(tmp_path / "lib", scans)
    decisions = decide(curate_config(library))
    assert decisions.representative == {"a": "c", "b": "c"}


def test_registered_contrasts_of_one_visit_are_all_kept(tmp_path, shipped):
    contrasts = {
        name: read_shipped(shipped / "nifti/mr" / f"btp_p01_{name}.nii.gz")
        for name in ("t1post", "t2", "flair")
    }
    for people in ("one", ""):  # also where nobody knows that they are one person's
        library = write_library(
            tmp_path / f"lib{people}", {name: Scan(v, people) for name, v in contrasts.items()}
        )
        decisions = decide(curate_config(library))
        assert decisions.kept == sorted(contrasts)
        assert len(set(decisions.split.values())) == 1


def test_shipped_near_duplicate_and_copy_are_found_and_nothing_else(tmp_path, shipped):
    files = sorted((shipped / "nifti").rglob("*.nii.gz"))
    trouble = [shipped / "trouble" / f"{n}.nii.gz" for n in ("copy_of_head", "resampled_head")]
    scans = {f.name.split(".")[0]: Scan(read_shipped(f), f.name[:7]) for f in files}
    scans |= {f.name.split(".")[0]: Scan(read_shipped(f)) for f in trouble}
    decisions = decide(curate_config(write_library(tmp_path / "lib", scans)))
    pairs = {frozenset(pair) for pair in decisions.representative.items()}
    assert pairs == {
        frozenset({"btp_p01_t1post", "copy_of_head"}),
        frozenset({"ms_p12_T1W", "resampled_head"}),
    }
    assert decisions.representative["resampled_head"] == "ms_p12_T1W"


def test_nothing_depends_on_the_order_of_the_catalog(planted):
    first = decide(curate_config(planted))
    table = read_catalog_table(planted)
    for seed in range(3):
        rows = CatalogRows(table.take(np.random.default_rng(seed).permutation(len(table))))
        again = decide(curate_config(planted), rows)
        assert again == first


def test_another_key_of_the_pseudonyms_divides_the_same_scans_alike(tmp_path):
    people = {f"v{n}": (blobs(n), f"person {n // 2}") for n in range(1, 9)}
    found = []
    for seed in (0, 1):
        order = np.random.default_rng(seed).permutation(100).tolist()
        renamed = {f"{order[n]:02d}": scan for n, scan in enumerate(people.values())}
        scans = {
            key: Scan(volume, f"{order[int(person.split()[1])]:02d}")
            for key, (volume, person) in renamed.items()
        }
        library = write_library(tmp_path / f"lib{seed}", scans)
        split_of = decide(curate_config(library, splits={"val": 0.4, "test": 0.0})).split
        names = dict(zip(renamed, people, strict=True))
        found.append({names[key]: split for key, split in split_of.items()})
    assert found[0] == found[1]
    assert set(found[0].values()) == {"train", "val"}


def test_workers_change_nothing(planted, monkeypatch):
    monkeypatch.setattr("medssl.curation.duplicates.FEW_PAIRS", 0)
    alone, together = (decide(curate_config(planted, workers=n)) for n in (1, 2))
    assert alone.edges
    assert together == alone


def test_the_same_again_is_skipped_and_something_else_refused(planted):
    first = curate(curate_config(planted))
    again = curate(curate_config(planted, workers=2))
    assert again.skipped
    assert again.summary == first.summary
    other = curate_config(planted, splits={"seed": 1})
    with pytest.raises(FolderError, match=r"splits\.seed: was 0, now 1"):
        curate(other)
    assert not curate(other, overwrite=True).skipped


def test_a_selection_that_keeps_nothing_says_why(planted):
    config = curate_config(planted, rules=[{"name": "modality", "allowed": ["US"]}])
    with pytest.raises(InputError, match="no volume would be kept; excluded were: modality 9"):
        curate(config)
    with pytest.raises(InputError, match="not finished"):
        read_selection(planted, "all")


def test_a_library_without_catalog_is_refused(tmp_path):
    with pytest.raises(InputError, match="run `medssl ingest` first"):
        curate(curate_config(tmp_path))
    assert not (tmp_path / "selections").exists()


def test_a_damaged_volume_drops_nothing_and_stops_nothing(planted):
    volume_path(planted, "d_resampled").write_bytes(b"damaged")
    curate(curate_config(planted))
    selection = read_selection(planted, "all")
    assert "d_resampled" in set(selection.kept["volume_key"])
    pairs = pd.read_parquet(planted / "selections/all/edges.parquet")
    unread = pairs[pairs["volume_b"] == "d_resampled"]
    assert set(unread["kind"]) == {"unreadable"}
    assert unread[["ncc_physical", "ncc_index", "score", "threshold"]].isna().all(axis=None)
    groups = selection.kept.set_index("volume_key")["group_key"]
    assert groups["d_resampled"] == groups["a_original"]


def test_no_near_duplicate_among_volumes_a_rule_excluded(planted):
    config = curate_config(planted, rules=[{"name": "spacing", "at_most_mm": 3.5}])
    decisions = decide(config)
    assert decisions.excluded["d_resampled"][0] == "spacing"
    assert not any("d_resampled" in edge.volumes for edge in decisions.edges)


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b"])
def test_names_that_are_no_folder_names_are_refused(name):
    with pytest.raises(ValidationError):
        CurateConfig(library="lib", name=name, tracking=TrackingConfig(enabled=False))


def test_the_example_configuration_shows_the_defaults():
    shown = load(CurateConfig, ROOT / "configs/curate/example.yaml")
    defaults = CurateConfig(library=shown.library, name=shown.name)
    assert shown == defaults
