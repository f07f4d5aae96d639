"""The benchmark measures what it says, on networks small enough for a test."""

import json

import pytest

from pipelines.benchmarks import onnx_parity

pytestmark = pytest.mark.slow


def test_shapes_are_compared_and_numbers_are_written(tmp_path, capsys):
    out = tmp_path / "numbers" / "parity.json"
    assert onnx_parity.main(["--tiny", "--networks", "vit", "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    (row,) = result["rows"].values()
    assert len(row["relative_difference"]) == 5
    assert max(row["relative_difference"].values()) <= 1e-4
    assert row["bytes"] > 0
    assert "onnxruntime beside PyTorch" in capsys.readouterr().out


def test_a_graph_that_differs_is_said_and_is_an_error(monkeypatch, capsys):
    monkeypatch.setattr("medssl.export.formats.onnx.TOLERANCE", -1.0)
    assert onnx_parity.main(["--tiny", "--networks", "vit"]) == 1
    assert "differ by" in capsys.readouterr().out.replace("\n", " ")
