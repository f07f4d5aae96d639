"""`medssl reports check`: what is printed and shown, without a library."""

import pytest
import typer
from typer.testing import CliRunner

from medssl.cli.reports import add_commands
from tests.reports.libraries import write_table
from tests.reports.structured_reports import write_structured

SAYS = "FINDINGS: Small pleural effusion, seen by Dr. Yolanda Zwick on 03.05.2019. No emphysema."


@pytest.fixture
def run(tmp_path, monkeypatch):
    app = typer.Typer()
    add_commands(app)
    monkeypatch.chdir(tmp_path)

    def call(*words):
        result = CliRunner().invoke(app, ["reports", "check", *map(str, words)])
        return result.exit_code, " ".join(result.output.split())

    return call


def test_a_table_is_shown_with_evidence_and_without_names(run, tmp_path):
    rows = [{"report": SAYS}, {"report": SAYS}, {"report": "Normal chest CT."}, {"report": ""}]
    table = write_table(tmp_path / "reports.csv", rows)
    code, told = run(table, "--text", "report", "--out", "page.html")
    assert code == 0
    assert "reports 3 normal 1 with headers 2" in told
    assert "different texts 2" in told
    assert "refused, empty 1" in told
    page = (tmp_path / "page.html").read_text()
    assert "<b>pleural effusion</b>" in page
    assert "title_name" in page
    assert "Zwick" not in page
    assert "03.05" not in page
    assert "<script" not in page


def test_a_very_long_report_is_read_and_noted(run, tmp_path):
    rows = [{"report": "FINDINGS: " + "The lungs are clear. " * 1500 + "Emphysema."}]
    table = write_table(tmp_path / "reports.csv", rows)
    code, told = run(table, "--text", "report")
    assert (code, "long 1" in told) == (0, True)


def test_columns_of_sections_json_lines_and_a_folder(run, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"f": "Emphysema.", "i": null}\nnot json\n')
    code, told = run(
        tmp_path / "a.jsonl", "sources.sections.findings=f", "sources.sections.impression=i"
    )
    assert (code, "reports 1" in told, "refused, broken_row 1" in told) == (0, True, True)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "x.txt").write_text("No emphysema.")
    (folder / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 50)
    write_structured(
        folder / "sr.dcm", "1.2.3", {"Findings": "Emphysema.", "Impression": "As said."}
    )
    code, told = run(folder)
    assert (code, "reports 2" in told, "refused 1" in told) == (0, True, True)


def test_bytes_that_are_no_text_refuse_one_row(run, tmp_path):
    path = tmp_path / "reports.csv"
    path.write_bytes("report\nHerz normal gro\u00df.\nEmphysema.\n".encode("cp1252"))
    code, told = run(path, "--text", "report")
    assert (code, "reports 1" in told, "refused, encoding 1" in told) == (0, True, True)
    code, told = run(path, "--text", "report", "sources.encoding=cp1252")
    assert (code, "reports 2" in told) == (0, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.csv", "--text", "a"], "there are no reports"),
        (["reports.csv"], "no column of the table is said to hold text"),
        (["reports.csv", "--text", "b"], "lacks the columns 'b'"),
        (["reports.csv", "--text", "report", "--ontology", "x"], "the ontology x cannot be read"),
        (["reports.csv", "--text", "report", "sources.encoding=klingon"], "unknown encoding"),
    ],
)
def test_mistakes_are_explained(run, tmp_path, words, message):
    write_table(tmp_path / "reports.csv", [{"report": SAYS}])
    code, told = run(*words)
    assert code == 1
    assert message in told
    assert "Traceback" not in told
