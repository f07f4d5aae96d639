import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medssl.errors import InputError
from medssl.reports.pairs import Pair, Section, read_pairs, text_digest, write_pairs

KEYS = st.text("abcdef0123456789", min_size=1, max_size=6)
LABELS = st.dictionaries(st.sampled_from(["effusion", "nodule"]), st.sampled_from([1, 0, -1]))
PAIRS = st.builds(
    Pair,
    study_key=KEYS,
    patient_key=KEYS,
    split=st.sampled_from(["train", "val", "test"]),
    volume_keys=st.lists(KEYS, min_size=1, max_size=3).map(tuple),
    sections=st.lists(st.builds(Section, name=KEYS, text=st.text())).map(tuple),
    labels=LABELS,
    normal=st.none() | st.booleans(),
)


def pair(key="s1", **changes):
    sections = (
        Section(name="history", text="Cough."),
        Section(name="findings", text="A nodule."),
        Section(name="impression", text="Follow up."),
    )
    about = {"patient_key": "p1", "split": "train", "volume_keys": ("v1",), "sections": sections}
    return Pair(study_key=key, **about | changes)


@given(st.lists(PAIRS, unique_by=lambda pair: pair.study_key))
def test_pairs_come_back_as_they_were_written(tmp_path_factory, pairs):
    folder = tmp_path_factory.mktemp("pairs")
    digest = write_pairs(folder, pairs, ["effusion", "nodule"])
    read = read_pairs(folder)
    assert read.pairs == tuple(sorted(pairs, key=lambda pair: pair.study_key))
    assert (read.digest, read.findings) == (digest, ("effusion", "nodule"))


def test_a_text_is_what_was_found_or_all_there_is():
    assert pair().text() == "A nodule.\nFollow up."
    assert pair().text(("history",)) == "Cough."
    body = (Section(name="body", text="All in one."),)
    assert pair(sections=body).text() == "All in one."


def test_case_marks_and_spaces_do_not_make_another_text():
    assert text_digest("No acute  disease.") == text_digest("no ACUTE disease")
    assert text_digest("No acute disease.") != text_digest("Acute disease.")


def test_splits_are_taken_apart(tmp_path):
    write_pairs(tmp_path, [pair("s1"), pair("s2", split="val")], [])
    assert [p.study_key for p in read_pairs(tmp_path).split("val")] == ["s2"]
    assert len(read_pairs(tmp_path).split(None)) == 2


def test_what_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(ValueError, match="twice"):
        write_pairs(tmp_path, [pair(), pair()], [])
    with pytest.raises(ValueError, match="nodule, which is no finding"):
        write_pairs(tmp_path, [pair(labels={"nodule": 1})], ["effusion"])
    with pytest.raises(ValueError, match="at least one volume"):
        pair(volume_keys=())
    assert not (tmp_path / "pairs.json").exists()


def test_damage_is_named(tmp_path):
    with pytest.raises(InputError, match="no finished pairs"):
        read_pairs(tmp_path)
    write_pairs(tmp_path, [pair()], [])
    index = json.loads((tmp_path / "pairs.json").read_text())
    (tmp_path / "pairs.json").write_text(json.dumps(index | {"digest": "0"}))
    with pytest.raises(InputError, match="is not what"):
        read_pairs(tmp_path)
    (tmp_path / "pairs.json").write_text(json.dumps(index | {"format_version": 9}))
    with pytest.raises(InputError, match="format 9"):
        read_pairs(tmp_path)
    (tmp_path / "pairs.json").write_text(json.dumps(index))
    (tmp_path / "pairs.parquet").write_bytes(b"damaged")
    with pytest.raises(InputError, match="cannot be read"):
        read_pairs(tmp_path)
