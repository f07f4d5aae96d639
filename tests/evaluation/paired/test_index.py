import numpy as np
import pytest

from medssl.errors import InputError
from medssl.evaluation.paired.index import Index, read_index, write_index
from medssl.evaluation.paired.studies import Embedded
from tests.evaluation.paired.bright_studies import pair


def index(rows=40, width=5):
    drawn = np.random.default_rng(0).standard_normal((2, rows, width)).astype(np.float32)
    image_ND, text_ND = drawn / np.linalg.norm(drawn, axis=2, keepdims=True)
    text_ND[3] = np.nan
    keys = tuple(f"s{n:03d}" for n in range(rows))
    return Index(keys, keys, image_ND, text_ND, "digest")


@pytest.mark.parametrize("among", ["images", "reports"])
def test_the_nearest_are_those_of_a_full_comparison(among):
    there = index()
    query = np.array([0.6, 0.8, 0, 0, 0])
    rows = there.image_ND if among == "images" else there.text_ND
    slow = sorted(
        (
            (-sum(float(a) * b for a, b in zip(row, query, strict=True)), key)
            for key, row in zip(there.study_keys, rows, strict=True)
            if key != "s007" and not np.isnan(row).any()
        )
    )
    hits = there.nearest(query, among, 6, hidden="s007")
    assert [hit.study_key for hit in hits] == [key for _, key in slow[:6]]
    assert hits[0].cosine == pytest.approx(-slow[0][0], abs=1e-6)
    assert len(there.nearest(query, among, 1000)) == (40 if among == "images" else 39)


def test_what_was_written_is_read(subject, tmp_path):
    pairs = tuple(pair(n, "test") for n in range(3))
    image_ND, text_ND = np.eye(3), np.eye(3)[::-1].copy()
    text_ND[1] = np.nan
    write_index(tmp_path, subject, Embedded(pairs, image_ND, text_ND, ()))
    found = read_index(tmp_path)
    assert found.study_keys == ("s000", "s001", "s002")
    assert found.patient_keys == ("p000", "p000", "p001")
    assert found.subject_digest == subject.digest
    np.testing.assert_array_equal(found.image_ND, image_ND)
    np.testing.assert_array_equal(found.text_ND, text_ND)
    assert found.row("s002") == 2
    with pytest.raises(InputError, match="no study of that key"):
        found.row("nobody")


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("vectors.parquet", b"cut off", "cannot be read"),
        ("index.json", b"{}", "cannot be read"),
        ("index.json", b'{"format_version": 7, "subject_digest": ""}', "format 7"),
        ("index.json", None, "nothing to search"),
    ],
)
def test_a_damaged_index_is_explained(subject, tmp_path, file, content, problem):
    pairs = (pair(0, "test"),)
    write_index(tmp_path, subject, Embedded(pairs, np.eye(1), np.eye(1), ()))
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError, match=problem):
        read_index(tmp_path)
