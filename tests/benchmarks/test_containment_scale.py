import json

from pipelines.benchmarks import containment_scale


def test_it_finds_what_was_planted_and_writes_json(tmp_path, capsys):
    out = tmp_path / "numbers.json"
    assert containment_scale.main(["--slices", "12000", "--out", str(out)]) == 0
    assert "the planted pairs found" in capsys.readouterr().out
    (reading,) = json.loads(out.read_text())["readings"]
    assert reading["planted"] == reading["found"] == 10
