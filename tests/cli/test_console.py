import json
import logging
import warnings
from pathlib import Path

import pytest

from medssl.cli import console
from medssl.runs import progress
from medssl.runs.stage import StageResult


@pytest.fixture(autouse=True)
def _restored():
    root, levels = logging.getLogger(), {}
    for name in ("", "medssl", *console._CHATTY):
        levels[name] = logging.getLogger(name).level
    handlers = list(root.handlers)
    with warnings.catch_warnings():
        yield
    for handler in list(root.handlers):
        if handler not in handlers:
            root.removeHandler(handler)
            handler.close()
    root.handlers = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    progress.install(None)


def test_logs_go_to_people_and_as_json_lines_to_a_file_without_identifiers(tmp_path, capsys):
    console.set_up(log_file=tmp_path / "run" / "log.jsonl")
    logging.getLogger("medssl.x").info("read %s of %s", 3, "DOE^JANE")
    logging.getLogger("medssl.x").debug("not shown")
    logging.getLogger("urllib3.connectionpool").warning("not shown")
    try:
        raise ValueError("in 1.2.840.113619.2.55.3.4")
    except ValueError:
        logging.getLogger("medssl.x").exception("failed")
    shown = capsys.readouterr().err
    assert "INFO read 3 of <redacted>" in shown
    assert "not shown" not in shown
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["message"] for line in lines] == ["read 3 of <redacted>", "failed"]
    assert lines[0]["level"] == "info"
    assert lines[1]["traceback"].endswith("ValueError: in <redacted>")


def test_other_ranks_are_silent(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    console.set_up(log_file=tmp_path / "log.jsonl")
    logging.getLogger("medssl").error("twice")
    with progress.task("x", 1) as task:
        task.advance()
    assert capsys.readouterr() == ("", "")
    assert not (tmp_path / "log.jsonl").exists()


def test_verbose_tells_more(capsys):
    console.set_up(verbose=True)
    logging.getLogger("medssl").debug("detail")
    assert "detail" in capsys.readouterr().err


def test_the_closing_summary_says_what_was_done_and_where_to_look(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = [
        StageResult("ingest", tmp_path / "lib", {"volumes": 12, "ok": True}, {"table": "q.csv"}),
        StageResult(
            "evaluate", Path("ev"), {"dice": 0.81234567, "gpu": "none"}, {"r": "r.html"}, True
        ),
    ]
    console.summarise(results, extra=["Then: mlflow ui [x]"])
    said = " ".join(capsys.readouterr().out.split())
    assert said == (
        "ingest: done volumes 12 ok yes "
        "evaluate: already done, nothing to do dice 0.8123 gpu none "
        "Look at ingest: table lib/q.csv evaluate: r ev/r.html "
        "Then: mlflow ui [x]"
    )
