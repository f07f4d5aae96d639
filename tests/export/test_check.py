"""An exported folder, whole and then not."""

import shutil

import pytest

from medssl.errors import InputError
from medssl.export.check import check_artefact
from medssl.export.checksums import write_checksums
from medssl.export.export import export
from medssl.export.signature import make_key
from medssl.runs.folder import read_json
from tests.export.bundles import config
from tests.export.encoders import write_run


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        make_key(folder / name)
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory, keys):
    root = tmp_path_factory.mktemp("signed")
    run = write_run(root / "run", "segresnet")
    form = {"name": "encoder_folder"}
    settings = config(root / "out", run=run, format=form, signing_key=keys / "ours")
    export(settings)
    return settings.artefact


@pytest.fixture
def artefact(tmp_path, exported):
    shutil.copytree(exported, tmp_path / "artefact")
    return tmp_path / "artefact"


def test_what_was_exported_is_good(artefact, keys):
    found = check_artefact(artefact, keys / "ours.pub")
    assert found.good
    (line,) = found.lines()
    assert line.startswith("6 of 6 files as they were exported; signed by the key you gave (")
    assert "give --public-key to know whose" in check_artefact(artefact).lines()[-1]


def test_each_difference_is_a_line(artefact, keys):
    (artefact / "config.json").write_text("{}")
    (artefact / "LICENSE").unlink()
    (artefact / "docs").mkdir()
    (artefact / "docs" / "more.md").touch()
    found = check_artefact(artefact, keys / "ours.pub")
    assert not found.good
    assert found.lines()[:3] == [
        "config.json: changed since it was exported",
        "LICENSE: missing",
        "docs/more.md: added since it was exported",
    ]
    assert found.lines()[-1].startswith("4 of 6 files as they were exported; signed by")


def test_a_new_list_after_a_change_breaks_the_signature(artefact, keys):
    (artefact / "config.json").write_text("{}")
    write_checksums(artefact)
    for key in (None, keys / "ours.pub"):
        found = check_artefact(artefact, key)
        assert not found.good
        assert found.lines() == [
            "6 of 6 files as they were exported; the signature is not of this list of files"
        ]


def test_a_signature_that_was_taken_away_counts_where_one_is_asked_for(artefact, keys):
    (artefact / "SHA256SUMS.sig").unlink()
    assert check_artefact(artefact).good
    assert not check_artefact(artefact, keys / "ours.pub").good
    assert check_artefact(artefact).lines()[-1].endswith("; not signed")


def test_another_key_is_said_to_be_another(artefact, keys):
    found = check_artefact(artefact, keys / "theirs.pub")
    assert not found.good
    assert "signed by another key than the one you gave" in found.lines()[-1]


def test_code_is_found_even_where_the_list_has_it(artefact):
    (artefact / "run.py").write_text("print()")
    write_checksums(artefact)
    assert ("run.py", "is of a kind that can hold code, which an artefact has no need of") in (
        check_artefact(artefact).strange
    )


def test_a_folder_that_is_none_is_explained(tmp_path):
    with pytest.raises(InputError, match="there is no SHA256SUMS"):
        check_artefact(tmp_path)


def test_the_papers_say_where_the_weights_come_from(artefact):
    provenance = read_json(artefact / "provenance.json")
    assert provenance["format"] == {"name": "encoder_folder"}
    assert provenance["licences"] == {
        "weights": "not stated", "data": "not stated", "parents": []
    }  # fmt: skip
    assert provenance["exported_with"]["git_commit"]
    card = (artefact / "README.md").read_text()
    assert card.count("Not a medical device: not for diagnosis") == 2
    for heading in ("Use", "What it is", "Data", "How good it is", "Limits", "Intended use"):
        assert f"\n## {heading}\n" in card
