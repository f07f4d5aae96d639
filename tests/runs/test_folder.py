import json
import os
import stat

import numpy as np
import pytest

from medssl.runs.folder import atomic_path, plain, read_json, sweep_partial, write_json, write_text


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "deep" / "a.nii.gz"
    with atomic_path(path) as partial:
        assert partial.name.endswith(".nii.gz")
        partial.write_text("half")
        assert not path.exists()
    assert path.read_text() == "half"
    assert [p.name for p in path.parent.iterdir()] == ["a.nii.gz"]


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(TypeError), atomic_path(path) as partial:
        partial.write_text("new") + "more"
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_replaces_a_folder(tmp_path):
    path = tmp_path / "bundle"
    for content in ("one", "two"):
        with atomic_path(path) as partial:
            (partial / "sub").mkdir(parents=True)
            (partial / "sub" / content).write_text(content)
    assert [p.name for p in (path / "sub").iterdir()] == ["two"]


def test_nothing_written_is_an_error_and_not_an_empty_file(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_of_two_writers_at_once_the_last_wins_whole(tmp_path):
    with atomic_path(tmp_path / "a") as one, atomic_path(tmp_path / "a") as other:
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "a").read_text() == "one"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_what_a_killed_writer_left_is_replaced_and_swept(tmp_path):
    (tmp_path / ".partial-a.txt").mkdir()
    write_text(tmp_path / "a.txt", "x")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / ".partial-b").write_text("half")
    (tmp_path / ".partial-c").mkdir()
    (tmp_path / ".partial-c" / ".partial-d").touch()
    sweep_partial(tmp_path)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.txt", "sub"]


def test_files_have_the_permissions_of_the_umask(tmp_path):
    previous = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "x")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_json_round_trip_of_what_stages_hold(tmp_path):
    write_json(
        tmp_path / "a.json",
        {
            "n": np.int64(3),
            "x": np.float32(0.5),
            "nan": float("nan"),
            "inf": np.inf,
            "array": np.eye(2),
            "path": tmp_path / "b",
            "set": {"b", "a"},
            "none": None,
            "yes": True,
            3: "three",
        },
    )
    assert read_json(tmp_path / "a.json") == {
        "n": 3,
        "x": 0.5,
        "nan": None,
        "inf": None,
        "array": [[1.0, 0.0], [0.0, 1.0]],
        "path": str(tmp_path / "b"),
        "set": ["a", "b"],
        "none": None,
        "yes": True,
        "3": "three",
    }


def test_plain_is_what_json_can_hold():
    assert json.loads(json.dumps(plain({"a": (1, [2.5, float("-inf")])}))) == {
        "a": [1, [2.5, None]]
    }
