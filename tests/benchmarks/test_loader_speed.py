"""The benchmark measures what it says, on volumes small enough for a test."""

import json

import pytest

from pipelines.benchmarks import loader_speed

TINY = ["--shape", "60", "50", "40", "--volumes", "2", "--crop", "8", "--samples", "3"]


@pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader")  # MONAI, on making any reader
def test_both_ways_give_samples_and_numbers_are_written(tmp_path, capsys):
    out = tmp_path / "numbers" / "loader.json"
    arguments = [*TINY, "--cold", "1", "--step-ms", "1", "--out", str(out)]
    status = loader_speed.main(arguments)
    result = json.loads(out.read_text())
    assert set(result["rows"]) == {"crop store", "PersistentDataset"}
    for row in result["rows"].values():
        assert row["samples_per_s"] > 0
        assert row["cold_s"] > 0
        assert 0 <= row["waiting_share"] <= 1
    assert status == (0 if result["holds"] else 1)
    assert "PersistentDataset" in capsys.readouterr().out
