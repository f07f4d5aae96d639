import os

import pytest

from medssl.errors import InputError
from medssl.io.deidentify import Pseudonymizer
from medssl.io.sources.folder import candidate_names, list_files

KEY = Pseudonymizer.ephemeral()


@pytest.fixture
def tree(tmp_path):
    for name in ("data/b/2.nii", "data/a/1.nii", "data/top.nii", "data/.hidden"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * len(name))
    return tmp_path / "data"


def test_files_are_sorted_and_named_within_their_source(tree):
    found = list_files([tree], KEY)
    assert [ref.name for ref in found] == [".hidden", "a/1.nii", "b/2.nii", "top.nii"]
    assert found[1].file_key == KEY.file_key("data/a/1.nii")
    assert found[1].bytes == len("data/a/1.nii")


def test_keys_survive_a_move_of_the_whole_folder(tree, tmp_path):
    before = [ref.file_key for ref in list_files([tree], KEY)]
    moved = tmp_path / "elsewhere" / "data"
    moved.parent.mkdir()
    tree.rename(moved)
    assert [ref.file_key for ref in list_files([moved], KEY)] == before


def test_sources_of_one_name_are_told_apart_by_more_of_their_path(tree, tmp_path):
    other = tmp_path / "other" / "data"
    other.mkdir(parents=True)
    (other / "top.nii").write_bytes(b"")
    found = list_files([tree, other], KEY)
    assert len({ref.file_key for ref in found}) == len(found) == 5
    assert KEY.file_key("other/data/top.nii") in {ref.file_key for ref in found}


def test_a_file_reached_twice_is_listed_once(tree):
    assert len(list_files([tree, tree / "a", tree / "top.nii", tree], KEY)) == 4


def test_links_are_followed_but_never_in_a_circle(tree, tmp_path):
    (tree / "a" / "loop").symlink_to(tree)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "3.nii").write_bytes(b"")
    (tree / "linked").symlink_to(tmp_path / "outside")
    (tree / "gone").symlink_to(tmp_path / "nowhere")
    names = [ref.name for ref in list_files([tree], KEY)]
    assert len(names) == 6
    assert {"gone", "linked/3.nii"} <= set(names)


def test_a_link_to_itself_is_a_file_that_cannot_be_read(tree):
    (tree / "snake").symlink_to(tree / "snake")
    assert "snake" in [ref.name for ref in list_files([tree], KEY)]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list any folder")
def test_a_folder_that_cannot_be_listed_is_accounted_for(tree):
    (tree / "a").chmod(0)
    assert "a" in [ref.name for ref in list_files([tree], KEY)]
    (tree / "a").chmod(0o700)


def test_a_folder_may_be_left_out(tree):
    (tree / "link").symlink_to(tree / "a")
    names = [ref.name for ref in list_files([tree], KEY, skip=tree / "a")]
    assert names == [".hidden", "b/2.nii", "top.nii"]


def test_patterns_fit_the_name_within_the_source(tree):
    found = {ref.name: ref for ref in list_files([tree], KEY)}
    assert found["a/1.nii"].matches(["a/*"])
    assert found["a/1.nii"].matches(["*.nii"])
    assert not found["a/1.nii"].matches(["data/*", "b/*"])


def test_the_name_of_a_file_is_among_its_candidates(tree):
    (ref,) = [ref for ref in list_files([tree], KEY) if ref.name == "a/1.nii"]
    assert ref.file_key in {KEY.file_key(name) for name in candidate_names(ref.path)}


def test_mistakes_are_said(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        list_files([tmp_path / "nowhere"], KEY)
    with pytest.raises(InputError, match="no files"):
        list_files([tmp_path], KEY)
