import pytest

from medssl.ingest.ingest import ingest
from medssl.ingest.items import ItemResult
from medssl.ingest.journal import Journal
from medssl.library.catalog import COLUMNS, catalog_digest
from medssl.library.outcomes import FileOutcome
from tests import phantoms


def result(key, signature="s"):
    row = dict.fromkeys(COLUMNS, "") | {"volume_key": key, "mean": 0.1}
    row |= {"dct_full": bytes(32), "dct_bbox": b"\xff" * 32}
    file = FileOutcome(
        file_key=key, outcome="converted", volume_key=key, bytes=1, source_format="nifti"
    )
    return ItemResult(key=key, signature=signature, files=(file,), volumes=(row,))


def test_what_was_appended_is_there_in_the_next_process(tmp_path):
    journal = Journal(tmp_path)
    journal.append(result("a"))
    journal.append(result("b"))
    journal.append(result("a", "changed"))
    assert Journal(tmp_path).results == {"a": result("a", "changed"), "b": result("b")}


def test_a_line_cut_short_is_forgotten_and_the_next_is_whole(tmp_path):
    journal = Journal(tmp_path)
    journal.append(result("a"))
    content = journal.path.read_bytes()
    for cut in (1, 10, len(content) - 1):
        journal.path.write_bytes(content + content[:cut])
        again = Journal(tmp_path)
        assert set(again.results) == {"a"}
        again.append(result("b"))
        assert set(Journal(tmp_path).results) == {"a", "b"}


def test_replace_keeps_only_what_it_is_given(tmp_path):
    journal = Journal(tmp_path)
    for key in "cab":
        journal.append(result(key))
    journal.replace([result("c"), result("a")])
    assert list(Journal(tmp_path).results) == ["a", "c"]


DAMAGE = {
    "no JSON": lambda line: b"x" * len(line),
    "no text": lambda line: b"\xff\xfe" + line[2:],
    "zeros": lambda line: bytes(len(line)),
    "cut": lambda line: line[: len(line) // 2],
    "empty": lambda line: b"",
    "another kind": lambda line: b"[1, null]",
    "a field less": lambda line: line.replace(b'"signature"', b'"sognature"'),
    "a column less": lambda line: line.replace(b'"mean"', b'"maen"'),
    "a file's field less": lambda line: line.replace(b'"bytes"', b'"bites"'),
    "no hex": lambda line: line.replace(b"ffff", b"zzzz"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_line_is_skipped_and_told(damage, tmp_path, caplog):
    journal = Journal(tmp_path)
    for key in "abc":
        journal.append(result(key))
    first, second, third = journal.path.read_bytes().splitlines()
    journal.path.write_bytes(b"\n".join([first, damage(second), third, b""]))
    assert Journal(tmp_path).results == {"a": result("a"), "c": result("c")}
    assert "1 damaged line(s) of journal.jsonl" in caplog.text


def test_the_item_of_a_damaged_line_is_converted_again(tmp_path, configure):
    affine = phantoms.affine_ras()
    for name in ("a.nii", "b.nii"):
        phantoms.write_nifti(tmp_path / "in" / name, phantoms.phantom(affine), affine)
    config = configure(tmp_path / "in")
    ingest(config)
    before = catalog_digest(config.library)
    path = config.library / "journal.jsonl"
    path.write_bytes(b"\x00\x00" + path.read_bytes()[2:])
    (tmp_path / "in" / "notes.txt").write_text("so that there is something to do")
    ingest(config)
    assert catalog_digest(config.library) == before
