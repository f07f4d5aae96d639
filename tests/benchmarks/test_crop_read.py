"""The benchmark measures what it says, on a volume small enough for a test."""

import json

from pipelines.benchmarks import crop_read


def test_it_prints_a_table_and_writes_its_numbers(tmp_path, capsys):
    out = tmp_path / "numbers" / "crop_read.json"
    arguments = ["--shape", "70", "60", "50", "--crop", "24", "--rounds", "2", "--out", str(out)]
    status = crop_read.main(arguments)
    result = json.loads(out.read_text())
    assert result["shape"] == [70, 60, 50]
    assert {name: row["readings"] for name, row in result["rows"].items()} == {
        "store, open": 18,
        "store, file opened anew": 2,
        "nii.gz, whole volume": 2,
    }
    whole, crop = (result["rows"][name] for name in ("nii.gz, whole volume", "store, open"))
    assert crop["volume_over_this"] == whole["median_ms"] / crop["median_ms"]
    assert result["holds"] == (crop["volume_over_this"] >= 100)
    assert status == (0 if result["holds"] else 1)
    printed = capsys.readouterr().out
    assert "one 24^3 crop of 70 x 60 x 50 int16" in printed
    assert "ratio" in printed
