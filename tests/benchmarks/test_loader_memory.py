"""The benchmark measures what it says, on samples few enough for a test."""

import json

import numpy as np
import pytest

from pipelines.benchmarks import loader_memory

TINY = ["--shape", "40", "36", "30", "--volumes", "3", "--crop", "8", "--samples", "24"]


def test_a_worker_is_watched_and_numbers_are_written(tmp_path, capsys):
    out = tmp_path / "numbers" / "memory.json"
    status = loader_memory.main([*TINY, "--warm", "4", "--every", "2", "--out", str(out)])
    result = json.loads(out.read_text())
    assert [sample for sample, _ in result["readings"]] == list(range(2, 25, 2))
    assert all(mb > 10 for _, mb in result["readings"])
    assert status == (0 if result["holds"] else 1)
    assert "one loader worker" in capsys.readouterr().out


def test_growth_is_that_of_the_line():
    samples = np.arange(1000.0, 10001, 50)
    found = loader_memory.growth(samples, 80 + samples / 1000)
    assert found["growth_mb"] == pytest.approx(9)
    assert found["interval_mb_per_1000_samples"] == pytest.approx([1, 1])
