"""Reports that were made to stall a reader, or to make it say whom it reads about."""

import time

import pytest

from medssl.errors import InputError
from medssl.reports.redaction import redact, remaining
from medssl.reports.sections import Headers
from medssl.reports.sources import RawReport, ReportSource, read_reports

LETTERS = 100_000
LONGEST_S = 5.0
RUNS = {
    "letters": "a",
    "dots": ".",
    "capitals and hyphens": "Aa-",
    "a label and spaces": ("MRN", " "),
    "a signature and spaces": ("signed by", " "),
    "a telephone and spaces": ("tel", " "),
    "an age and spaces": ("age", " "),
}


@pytest.mark.parametrize("name", RUNS)
def test_no_text_takes_the_reader_more_than_seconds(name):
    run = RUNS[name]
    start, repeated = run if isinstance(run, tuple) else ("", run)
    text = start + (repeated * LETTERS)[:LETTERS] + "x"
    began = time.perf_counter()
    clean = redact(text).text
    remaining(clean)
    assert time.perf_counter() - began < LONGEST_S


def test_a_header_and_spaces_take_no_longer():
    began = time.perf_counter()
    Headers.read().sections("FINDINGS" + " " * LETTERS + "x")
    assert time.perf_counter() - began < LONGEST_S


def test_spaces_around_what_announces_an_identifier_change_nothing():
    assert redact("MRN  no.  :  12345678").text == "MRN  no.  :  [NUMBER]"
    assert redact("Tel  no.  :  089 / 4711").text == "Tel  no.  :  [PHONE]"
    assert redact("signed  by  :  Jane Doe").text == "signed  by  :  [NAME]"
    assert redact("age  :  93").text == "age  :  [AGE]"
    assert redact("Karl-Theodor-Straße 5").text == "[ADDRESS]"


def test_a_table_without_a_header_does_not_show_its_first_patient(tmp_path):
    table = tmp_path / "reports.csv"
    table.write_text("Doe Jane,19700503,No effusion.\nRoe John,19600101,Effusion.\n")
    with pytest.raises(InputError, match="lacks the columns") as caught:
        list(read_reports(ReportSource(path=table, text="report")))
    assert "Doe" not in f"{caught.value} {caught.value.hint}"
    assert "first row" in caught.value.hint


def test_a_table_in_a_wide_encoding_that_breaks_off_is_explained(tmp_path):
    table = tmp_path / "reports.csv"
    table.write_bytes("study,report\n1,Normal.\n".encode("utf-16") + b"\x00")
    with pytest.raises(InputError, match="cannot be read as text in utf-16"):
        list(read_reports(ReportSource(path=table, text="report", encoding="utf-16")))


def test_a_line_of_brackets_refuses_one_row(tmp_path):
    table = tmp_path / "reports.jsonl"
    table.write_text("[" * LETTERS + '\n{"study": "1", "report": "Normal."}\n')
    first, second = read_reports(ReportSource(path=table, text="report"))
    assert first.code == "broken_row"
    assert isinstance(second, RawReport)


def test_a_byte_order_mark_does_not_hide_the_first_header(tmp_path):
    (tmp_path / "1.txt").write_bytes("\ufeffFINDINGS:\nNormal.".encode())
    (raw,) = read_reports(ReportSource(path=tmp_path))
    assert [each.name for each in Headers.read().sections(raw.parts[0][1])] == ["findings"]


def test_a_file_that_cannot_be_opened_refuses_one_row(tmp_path, monkeypatch):
    (tmp_path / "jane_doe.txt").write_text("Normal.")

    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.read_bytes", denied)
    (refused,) = read_reports(ReportSource(path=tmp_path))
    assert refused.code == "unreadable"
    assert "jane" not in refused.reason
