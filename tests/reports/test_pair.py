"""Reports and a library to pairs, with everything that hospitals hand over."""

import csv
import json
import subprocess
import sys

import pytest

from medssl.errors import FolderError, InputError
from medssl.io.deidentify import Pseudonymizer
from medssl.reports.pair import REFUSED, pair
from medssl.reports.pairs import read_pairs
from medssl.reports.report_page import PAGE
from tests.reports.libraries import SPLITS, UIDS, pair_config, write_library, write_table
from tests.reports.structured_reports import write_structured

SAYS = (
    "FINDINGS: Small pleural effusion on the left. No consolidation.\nIMPRESSION: Effusion.",
    "FINDINGS: No pleural effusion. Heart size is normal.\nIMPRESSION: No acute abnormality.",
    "Findings: Emphysema cannot be excluded.",
    "FINDINGS: Hiatal hernia.",
    "FINDINGS: Consolidation.",
    "FINDINGS: Emphysema.",
)


@pytest.fixture
def folder(tmp_path):
    write_library(tmp_path)
    return tmp_path


def refused(result):
    with (result.folder / REFUSED).open(newline="", encoding="utf-8") as file:
        return [(row["place"], row["code"]) for row in csv.DictReader(file)]


def written(folder):
    """Everything that a run left, as bytes."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def table(folder, rows, **changes):
    write_table(folder / "reports.csv", rows)
    return pair_config(folder, {"path": folder / "reports.csv"}, **changes)


def rows_of(texts):
    return [{"study": uid, "report": text} for uid, text in zip(UIDS, texts, strict=False)]


def test_each_study_gets_its_report_its_volumes_and_its_split(folder):
    key = Pseudonymizer.from_key_file(folder / "key")
    result = pair(table(folder, rows_of(SAYS)))
    found = read_pairs(result.folder)
    by_study = {each.study_key: each for each in found.pairs}
    assert by_study.keys() == {key.study_key(uid) for uid in UIDS[:4]}
    for n, uid in enumerate(UIDS[:4]):
        assert by_study[key.study_key(uid)].split == SPLITS[n]
        assert by_study[key.study_key(uid)].patient_key == key.patient_key(f"patient {n}")
    first, second, third = (by_study[key.study_key(UIDS[n])] for n in range(3))
    assert first.volume_keys == (key.volume_key("0", "1"), key.volume_key("0", "0"))  # as taken
    assert [part.name for part in first.sections] == ["findings", "impression"]
    assert first.labels == {"pleural_effusion": 1, "consolidation": 0}
    assert (first.normal, second.normal) == (False, True)
    assert second.labels == {"pleural_effusion": 0, "cardiomegaly": 0}
    assert third.labels == {"emphysema": -1}
    assert len(found.findings) == 18
    assert result.summary["pairs"] == 4


def test_what_makes_no_pair_is_a_row_with_a_reason(folder):
    rows = [
        *rows_of(SAYS),
        {"study": "1.2.3.4.5", "report": SAYS[0]},
        {"study": "", "report": SAYS[0]},
    ]
    rows[3]["report"] = " \n "
    result = pair(table(folder, rows))
    found = refused(result)
    assert ("row 4", "empty") in found
    assert ("row 5", "no_hounsfield_units") in found
    assert ("row 6", "not_selected") in found
    assert [code for place, code in found if place in ("row 7", "row 8")] == ["unknown_study"] * 2
    unpaired = [code for place, code in found if not place]
    assert sorted(unpaired) == ["no_hounsfield_units", "no_report", "no_report"]
    assert result.summary["pairs"] == 3


@pytest.mark.parametrize(
    ("several", "says"),
    [
        ("latest", "Emphysema"),
        ("longest", "Small hiatal hernia"),
        ("join", "Small"),
        ("refuse", ""),
    ],
)
def test_two_reports_for_one_study(folder, several, says):
    rows = [
        {"study": UIDS[0], "report": "FINDINGS: Small hiatal hernia is seen.", "day": "2020-01-02"},
        {"study": UIDS[0], "report": "FINDINGS: Emphysema.", "day": "2020-02-01"},
        {"study": UIDS[1], "report": "FINDINGS: Consolidation.", "day": ""},
    ]
    write_table(folder / "reports.csv", rows)
    sources = {"path": folder / "reports.csv", "date": "day"}
    result = pair(pair_config(folder, sources, several=several))
    texts = [each.text() for each in read_pairs(result.folder).pairs]
    assert len(texts) == (1 if several == "refuse" else 2)
    assert any(says in text for text in texts)
    expected = {"join": 0, "refuse": 2}.get(several, 1)
    assert [code for _, code in refused(result)].count("several_reports") == expected
    if several == "join":
        assert any("Emphysema" in text and "hernia" in text for text in texts)


def test_reports_of_one_date_are_not_ordered_by_chance(folder):
    rows = [{"study": UIDS[0], "report": SAYS[n], "day": "2020"} for n in (0, 1)]
    write_table(folder / "reports.csv", [*rows, {"study": UIDS[1], "report": SAYS[0]}])
    sources = {"path": folder / "reports.csv", "date": "day"}
    result = pair(pair_config(folder, sources, several="latest"))
    assert [code for _, code in refused(result)].count("several_reports") == 2


def test_nothing_of_a_person_is_left_anywhere(folder, capsys):
    text = (
        "Patient: Xaver Quandt\nFINDINGS: Quandt was seen by Dr. Yolanda Zwick on 03.05.2019. "
        "MRN: 99887766. No effusion.\nDictated by: Yolanda Zwick"
    )
    rows = [{"study": UIDS[0], "report": text, "name": "Quandt^Xaver", "number": "QX-4711"}]
    write_table(folder / "reports.csv", rows)
    sources = {"path": folder / "reports.csv", "identifying": ["name", "number"]}
    result = pair(pair_config(folder, sources))
    left = written(result.folder) + "".join(capsys.readouterr()).encode()
    for word in ("quandt", "xaver", "zwick", "yolanda", "99887766", "03.05.2019", UIDS[0]):
        assert word.encode() not in left.lower()
    assert b"[NAME]" in (result.folder / PAGE).read_bytes() + written(result.folder)
    assert result.summary["identifiers_removed"] >= 5


@pytest.mark.parametrize("strict", [True, False])
def test_what_still_looks_like_an_identifier_is_refused_and_never_shown(folder, strict):
    text = "FINDINGS: Emphysema, as told to J. Krautwurst."
    rows = rows_of([text, SAYS[1]])
    result = pair(table(folder, rows, reading={"strict": strict}))
    found = refused(result)
    assert (("row 1", "identifiers_remain") in found) is strict
    assert b"Krautwurst" not in (result.folder / REFUSED).read_bytes()
    assert result.summary["identifiers_suspected"] == (0 if strict else 1)
    if strict:
        assert b"initial_and_name (1)" in (result.folder / REFUSED).read_bytes()


def test_nifti_reports_are_joined_by_file_and_by_pseudonym(folder):
    key = Pseudonymizer.from_key_file(folder / "key")
    rows = [
        {"study": "scans/1.nii.gz", "report": SAYS[0]},
        {"study": "/data/scans/2.nii.gz", "report": SAYS[1]},
    ]
    write_table(folder / "reports.csv", rows)
    sources = {"path": folder / "reports.csv", "key_kind": "file"}
    found = read_pairs(pair(pair_config(folder, sources)).folder).pairs
    assert {each.study_key for each in found} == {key.study_key(UIDS[n]) for n in (1, 2)}
    rows = [{"study": key.series_key(f"{UIDS[0]}.1"), "report": SAYS[0]}]
    write_table(folder / "series.csv", rows)
    sources = {"path": folder / "series.csv", "key_kind": "series_key"}
    found = read_pairs(pair(pair_config(folder, sources, out=folder / "other")).folder).pairs
    assert [each.volume_keys for each in found] == [(key.volume_key("0", "1"),)]


def test_a_folder_of_texts_and_structured_reports(folder):
    source = folder / "texts"
    source.mkdir()
    (source / f"{UIDS[0]}.txt").write_text(SAYS[0])
    (source / f"{UIDS[1]}.txt").write_bytes("FINDINGS: Herzgröße normal.".encode("cp1252"))
    (source / "notes.xml").write_text("<a/>")
    write_structured(source / "sr.dcm", UIDS[2], {"Findings": "Emphysema. Seen by Kaluza."})
    result = pair(pair_config(folder, {"path": source, "text": None}))
    found = refused(result)
    assert ("file 2", "encoding") in found
    assert ("file 3", "not_dicom") in found
    assert result.summary["pairs"] == 2
    assert b"Kaluza" not in written(result.folder)  # named by the header of the report


def test_a_finished_run_is_handed_back_and_another_is_refused(folder):
    config = table(folder, rows_of(SAYS))
    first = pair(config)
    assert not first.skipped
    assert pair(config).skipped
    write_table(folder / "reports.csv", rows_of(SAYS[:2]))
    with pytest.raises(FolderError, match="made otherwise"):
        pair(config)
    assert pair(config, overwrite=True).summary["pairs"] == 2


def test_another_key_or_nothing_paired_is_explained(folder):
    config = table(folder, [{"study": "1.2.3", "report": SAYS[0]}])
    with pytest.raises(InputError, match="no report makes a pair: unknown_study 1"):
        pair(config)
    assert (folder / "pairs" / REFUSED).is_file()
    Pseudonymizer.from_key_file(folder / "other", create=True)
    with pytest.raises(InputError, match="made with another key"):
        pair(config.model_copy(update={"key_file": folder / "other"}))
    missing = pair_config(folder, {"path": folder / "nowhere.csv"})
    with pytest.raises(InputError, match="there are no reports"):
        pair(missing)


KILLED = """
import os, signal, sys
from medssl.reports import pair as stage
from medssl.reports.pair_config import PairConfig
stage.write_pairs = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
stage.pair(PairConfig.model_validate_json(sys.stdin.read()))
"""


def test_a_run_that_was_killed_is_done_again_whole(folder):
    config = table(folder, rows_of(SAYS))
    tree = json.dumps(config.model_dump(mode="json")).encode()
    ended = subprocess.run([sys.executable, "-c", KILLED], input=tree, check=False)
    assert ended.returncode == -9
    with pytest.raises(InputError, match="no finished pairs"):
        read_pairs(folder / "pairs")
    assert pair(config).summary["pairs"] == 4
