import shutil
import subprocess

import pytest

from medssl.errors import InputError
from medssl.export.checksums import compare, read_checksums, write_checksums


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "artefact"
    (folder / "models").mkdir(parents=True)
    (folder / "a.json").write_text("{}")
    (folder / "models" / "b").write_bytes(b"b")
    write_checksums(folder)
    return folder


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not installed")
def test_sha256sum_reads_the_list(folder):
    done = subprocess.run(
        ["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stdout == "a.json: OK\nmodels/b: OK\n"


def test_nothing_changed_is_no_difference(folder):
    found = compare(folder, read_checksums(folder))
    assert not found
    assert found.files == 2


def test_every_difference_is_named(folder):
    (folder / "a.json").write_text("{} ")
    (folder / "models" / "b").unlink()
    (folder / "models" / "c").touch()
    found = compare(folder, read_checksums(folder))
    assert (found.changed, found.missing, found.added) == (
        ("a.json",),
        ("models/b",),
        ("models/c",),
    )


def test_links_are_not_followed(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b").write_bytes(b"b")
    shutil.rmtree(folder / "models")
    (folder / "models").symlink_to(tmp_path / "elsewhere")
    found = compare(folder, read_checksums(folder))
    assert (found.missing, found.added) == (("models/b",), ("models",))


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/../../x", "./a.json", "SHA256SUMS", "a\\b", "a.json"]
)
def test_a_list_that_names_what_is_not_in_the_folder_is_refused(folder, name):
    with (folder / "SHA256SUMS").open("a") as file:
        file.write(f"{'0' * 64}  {name}\n")
    with pytest.raises(InputError, match="line 3 is no digest of a file of this folder"):
        read_checksums(folder)


def test_a_folder_without_a_list_is_explained(tmp_path, folder):
    with pytest.raises(InputError, match=r"there is no SHA256SUMS"):
        read_checksums(tmp_path)
    with pytest.raises(InputError, match=r"there is no such folder"):
        read_checksums(tmp_path / "none")
    (folder / "SHA256SUMS").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="it is no text"):
        read_checksums(folder)
