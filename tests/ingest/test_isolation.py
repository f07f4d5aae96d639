"""An item that kills its worker is refused; all others are converted."""

import os

import pytest

from medssl.ingest.convert import crashed
from medssl.ingest.isolation import map_isolated
from medssl.ingest.items import DicomItem, Item, ItemResult
from medssl.io.sources.folder import FileRef


def convert_or_die(item: Item) -> ItemResult:
    if item.key == "deadly":
        os._exit(17)
    if item.key == "wrong":
        raise LookupError("a bug")
    return ItemResult(key=item.key, signature=item.signature, files=(), volumes=())


def items(*keys):
    return [
        DicomItem(
            key=key, files=(FileRef(None, "", f"file-{key}", 7, 0),), signature="s", headers=()
        )
        for key in keys
    ]


def test_the_culprit_is_found_and_the_others_go_on():
    given = items("a", "b", "deadly", "c", "d")
    results = {r.key: r for r in map_isolated(convert_or_die, crashed, given, workers=2)}
    assert set(results) == {"a", "b", "deadly", "c", "d"}
    (row,) = results["deadly"].files
    assert (row.outcome, row.reason_code) == ("quarantined", "decoder_crashed")
    assert row.source_format == "dicom"
    assert all(not results[key].files for key in "abcd")


def test_a_bug_is_not_taken_for_a_crash():
    with pytest.raises(LookupError, match="a bug"):
        list(map_isolated(convert_or_die, crashed, items("a", "wrong"), workers=2))


def test_an_item_on_its_own_is_isolated_too():
    (result,) = map_isolated(convert_or_die, crashed, items("deadly"), workers=2)
    assert result.files[0].reason_code == "decoder_crashed"
