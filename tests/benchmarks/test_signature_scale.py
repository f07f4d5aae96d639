import json

import pytest

from pipelines.benchmarks import signature_scale


def test_it_finds_what_was_planted_and_writes_json(tmp_path, capsys):
    out = tmp_path / "numbers.json"
    assert signature_scale.main(["--counts", "100", "400", "--rounds", "1", "--out", str(out)]) == 0
    assert "to the power of" in capsys.readouterr().out
    numbers = json.loads(out.read_text())
    assert [reading["count"] for reading in numbers["readings"]] == [100, 400]
    assert all(reading["found"] >= 60 for reading in numbers["readings"])


def test_the_exponent_is_that_of_the_growth():
    readings = [{"count": n, "s": 1e-9 * n**2} for n in (1e3, 1e4, 1e5)]
    assert signature_scale.exponent(readings) == pytest.approx(2.0)
