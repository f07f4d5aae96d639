"""The benchmark measures what it says, on a scan small enough for a test."""

import json

import pytest

from pipelines.benchmarks import predict_memory

TINY = ["--shape", "40", "36", "30", "--classes", "3", "--width", "4", "--window", "16"]


@pytest.mark.slow
def test_both_are_measured_and_give_the_same_voxels(tmp_path, capsys):
    out = tmp_path / "numbers" / "memory.json"
    assert predict_memory.main([*TINY, "--spacing", "2", "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    assert result["voxels_different"] == 0
    assert set(result["measured"]) == {predict_memory.OURS, predict_memory.PLAIN}
    for found in result["measured"].values():
        assert 0.1 < found["peak_gb"] < predict_memory.CLAIM_GB
        assert found["seconds"] > 0
    assert "voxels that differ: 0" in capsys.readouterr().out
