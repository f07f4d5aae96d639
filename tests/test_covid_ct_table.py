"""The table of the COVID-CT challenge: parts, patients, and what is missing."""

import shutil
from collections import Counter

import pytest

from medssl.errors import InputError
from medssl.labelled.read import read_labelled
from medssl.labelled.splits import LabelledSplitConfig, split_cases
from pipelines.covid_ct_table import COLUMNS, covid_ct_table, main
from tests.covid_ct import challenge, write_patients


def test_official_validation_is_held_aside_and_ours_is_drawn_by_patient(tmp_path, capsys):
    folder = challenge(tmp_path / "challenge")
    main([str(folder), str(tmp_path / "runs" / "covid_ct.csv")])
    assert "test, covid 1: 4 images of 2 patients" in capsys.readouterr().out
    labelled = read_labelled(tmp_path / "runs" / "covid_ct.csv")
    assert labelled.modality == "CT"
    assert Counter(case.part for case in labelled.cases) == {"train": 16, "test": 8}
    parts = split_cases(labelled.cases, LabelledSplitConfig(val=0.25))
    patients = {part: {labelled.case(key).patient_key for key in parts[part]} for part in parts}
    assert {part: len(found) for part, found in patients.items()} == {
        "train": 6,
        "val": 2,
        "test": 4,
    }
    assert not patients["train"] & patients["val"]
    val = [labelled.case(key).targets["covid"] for key in parts["val"]]
    assert sorted(set(val)) == ["0", "1"]


def test_a_row_says_where_a_picture_is_from_and_nothing_that_only_positives_have(tmp_path):
    table = covid_ct_table(challenge(tmp_path), tmp_path)
    assert tuple(table.columns) == COLUMNS
    assert not {"age_years", "sex"} & set(table.columns)
    assert set(table.loc[table["covid"] == 1, "site"]) == {"preprints"}
    assert set(table.loc[table["covid"] == 0, "site"]) == {"medpix"}


def test_an_official_test_list_is_held_aside_too(tmp_path):
    folder = challenge(tmp_path, train=4, val=2)
    for label in ("COVID", "NonCOVID"):
        lists = folder / "Data-split" / label
        names = (lists / f"trainCT_{label}.txt").read_text().split()
        (lists / f"testCT_{label}.txt").write_text("\n".join(names[:2]))
        (lists / f"trainCT_{label}.txt").write_text("\n".join(names[2:]))
    assert Counter(covid_ct_table(folder, tmp_path)["split"]) == {"train": 12, "test": 12}


def test_missing_pictures_and_patients_are_counted(tmp_path):
    folder = challenge(tmp_path)
    (folder / "Images/CT_COVID/COVID-0%0.png").unlink()
    write_patients(folder, "NonCOVID", [("NonCOVID-1%0.png", "medpix_patient_1")])
    with pytest.raises(InputError, match=r"1 of 24 listed .* 11 have no patient"):
        covid_ct_table(folder, tmp_path)


def test_another_folder_is_refused(tmp_path):
    folder = challenge(tmp_path)
    shutil.rmtree(folder / "Data-split" / "COVID")
    with pytest.raises(InputError, match=r"trainCT_COVID\.txt is missing"):
        covid_ct_table(folder, tmp_path)


def test_the_shared_challenge_has_no_patient_in_two_parts(shared, tmp_path):
    table = covid_ct_table(shared / "data" / "covid-ct", tmp_path)
    assert len(table) == 543
    parts = table.groupby("patient")["split"].nunique()
    assert (parts == 1).all()
    assert table.groupby("split")["patient"].nunique().to_dict() == {"test": 56, "train": 233}
