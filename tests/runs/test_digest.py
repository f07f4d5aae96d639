import hashlib
from pathlib import Path

import pytest

from medssl.runs.digest import digest_bytes, digest_file, digest_json


def test_digests_are_sha256(tmp_path):
    content = b"x" * 3_000_000
    (tmp_path / "a").write_bytes(content)
    assert (
        digest_file(tmp_path / "a") == digest_bytes(content) == hashlib.sha256(content).hexdigest()
    )


def test_json_does_not_depend_on_the_order_of_keys():
    assert digest_json({"a": 1, "b": [1, 2]}) == digest_json({"b": [1, 2], "a": 1})


@pytest.mark.parametrize(
    "other", [{"a": 2}, {"a": "1"}, {"b": 1}, {"a": [1]}, {"a": 1, "b": None}, {"a": 1.5}]
)
def test_json_differs_where_the_data_differ(other):
    assert digest_json({"a": 1}) != digest_json(other)


def test_paths_and_text_are_the_same():
    assert digest_json({"a": Path("x/y")}) == digest_json({"a": "x/y"})
