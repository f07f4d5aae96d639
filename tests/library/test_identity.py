import pytest

from medssl.errors import FolderError
from medssl.library.identity import claim_library
from medssl.runs.folder import write_json


def test_a_library_belongs_to_one_key(tmp_path):
    claim_library(tmp_path, "one")
    claim_library(tmp_path, "one")
    with pytest.raises(FolderError, match="another key"):
        claim_library(tmp_path, "other")


def test_another_format_version_is_refused(tmp_path):
    write_json(tmp_path / "library.json", {"format_version": 99, "key_id": "one"})
    with pytest.raises(FolderError, match="format version 99"):
        claim_library(tmp_path, "one")
