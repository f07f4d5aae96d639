"""The commands around text encoders, as they are typed."""

import pytest
from typer.testing import CliRunner

pytest.importorskip("transformers")

from medssl.cli.main import app
from tests.text_folders import write_text_folder


def typed(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_check_shows_a_table(tmp_path):
    said = typed("text", "check", write_text_folder(tmp_path / "tiny"))
    assert said.exit_code == 0, said.output
    assert "hf_folder (BertModel)" in said.output
    assert "a pleural effusion" in said.output
    assert "Left and right:" in said.output


def test_check_says_what_a_folder_lacks(tmp_path):
    folder = write_text_folder(tmp_path / "tiny")
    (folder / "tokenizer.json").unlink()
    said = typed("text", "check", folder)
    assert said.exit_code == 1
    assert "a text folder lacking its tokenizer" in said.output
    assert "Traceback" not in said.output


def test_train_leaves_what_check_opens(tmp_path):
    corpus, out = tmp_path / "reports.txt", tmp_path / "text"
    corpus.write_text("\n".join(f"Nodule number {n} in part a{n} of the lung." for n in range(120)))
    small = ("network.width=16", "network.blocks=1", "network.heads=2", "network.max_tokens=32")
    quick = (
        "schedule.steps=2",
        "schedule.warmup_steps=1",
        "batch_size=4",
        "tracking.enabled=false",
    )
    done = typed("text", "train", corpus, *small, *quick, "--out", out)
    assert done.exit_code == 0, done.output
    assert "train_text: done" in done.output
    assert "scratch (BertModel)" in typed("text", "check", out).output
