"""The benchmark measures what it says, on a batch small enough for a test."""

import json

from pipelines.benchmarks import voco_loss_head


def test_both_forms_agree_and_numbers_are_written(tmp_path, capsys):
    out = tmp_path / "numbers" / "loss.json"
    tiny = ["--volumes", "2", "--crops", "2", "--bases", "5", "--dim", "16", "--rounds", "3"]
    status = voco_loss_head.main([*tiny, "--out", str(out)])
    result = json.loads(out.read_text())
    assert list(result["rows"]) == ["released", "large_scale"]
    for row in result["rows"].values():
        assert row["difference"] <= 1e-8
        assert row["ratio"] == row["pairs_ms"] / row["ours_ms"]
    assert status == (0 if result["holds"] else 1)
    assert "pair by pair" in capsys.readouterr().out
