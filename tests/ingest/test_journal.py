from medssl.ingest.items import ItemResult
from medssl.ingest.journal import Journal
from medssl.library.outcomes import FileOutcome


def result(key, signature="s"):
    row = {"volume_key": key, "dct_full": bytes(32), "dct_bbox": b"\xff" * 32, "mean": 0.1}
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
