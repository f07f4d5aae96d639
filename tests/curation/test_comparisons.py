import math

import pytest

from medssl.curation import comparisons as c
from medssl.curation.verification import Agreement, Shared

ROW = {"voxel_digest": "v", "intensity": "hu", "affine_ras": [float(n) for n in range(16)]}
FOUND = Agreement(ncc_physical=0.9, score=0.95, motion_voxels=0.01)


def test_what_was_measured_is_known_again(tmp_path):
    c.Comparisons(tmp_path).add("key", FOUND)
    again = c.Comparisons(tmp_path).get("key")
    assert again is not None
    assert (again.ncc_physical, again.score, again.motion_voxels) == (0.9, 0.95, 0.01)
    assert math.isnan(again.ncc_index)
    assert c.Comparisons(tmp_path).get("other") is None


def test_a_line_cut_short_or_damaged_is_measured_again(tmp_path):
    kept = c.Comparisons(tmp_path)
    for key in ("one", "two", "three"):
        kept.add(key, FOUND)
    content = kept.path.read_bytes().splitlines(keepends=True)
    kept.path.write_bytes(content[0] + b'{"key": [\n' + b"\xff\n" + b"3\n" + content[2][:20])
    again = c.Comparisons(tmp_path)
    assert again.get("one") is not None
    assert again.get("three") is None
    again.add("four", FOUND)
    assert c.Comparisons(tmp_path).get("four") is not None


def test_rules_that_changed_make_old_measurements_void(tmp_path, monkeypatch):
    c.Comparisons(tmp_path).add("key", FOUND)
    monkeypatch.setattr(c, "SPEC", "verification/next")
    assert c.Comparisons(tmp_path).get("key") is None


def test_a_library_that_cannot_be_written_to_keeps_nothing(tmp_path):
    kept = c.Comparisons(tmp_path / "not there")
    kept.add("key", FOUND)
    assert kept.get("key") is not None
    assert not (tmp_path / "not there").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [("voxel_digest", "w"), ("intensity", "arbitrary"), ("affine_ras", [1.5] * 16)],
)
def test_the_key_changes_with_what_is_compared(name, value):
    plain = c.content_key(ROW, ROW, None)
    assert plain == c.content_key(dict(ROW), dict(ROW), None)
    assert plain != c.content_key(ROW | {name: value}, ROW, None)
    assert plain != c.content_key(ROW, ROW | {name: value}, None)
    assert plain != c.content_key(ROW, ROW, Shared(2, 1))
