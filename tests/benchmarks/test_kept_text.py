"""The benchmark measures what it says, with a text encoder small enough for a test."""

import json

from pipelines.benchmarks import kept_text
from tests.text_folders import write_text_folder


def test_both_steps_have_one_loss_and_their_times_are_written(tmp_path, capsys):
    out = tmp_path / "numbers" / "kept.json"
    text = write_text_folder(tmp_path / "text")
    options = ["--batch", "3", "--sentences", "2", "--tokens", "5", "--side", "16"]
    status = kept_text.main([*options, "--rounds", "2", "--text", str(text), "--out", str(out)])
    result = json.loads(out.read_text())
    assert result["difference"] <= 1e-4
    assert all(seconds > 0 for seconds in result["cpu_s"].values())
    assert status == (0 if result["holds"] else 1)
    assert "at least 5 times the pairs per second" in capsys.readouterr().out


def test_a_ratio_below_the_claim_and_losses_that_differ_are_failures(monkeypatch, tmp_path):
    text = write_text_folder(tmp_path / "text")
    options = ["--batch", "2", "--sentences", "1", "--tokens", "4", "--side", "16"]
    took = iter(
        [(5.0, 1.0), (1.0, 1.0)] * 2 + [(4.0, 1.0), (1.0, 1.0)] * 2 + [(9.0, 1.0), (1.0, 2.0)] * 2
    )
    monkeypatch.setattr(kept_text, "step", lambda *_: next(took))
    codes = [kept_text.main([*options, "--rounds", "1", "--text", str(text)]) for _ in range(3)]
    assert codes == [0, 1, 1]
