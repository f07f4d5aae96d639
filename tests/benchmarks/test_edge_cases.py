"""The table of edge cases says which tool tells the truth."""

import json

import pytest

from pipelines.benchmarks import edge_cases
from pipelines.benchmarks.cases.case import Expected, converts, refuses, skips
from pipelines.benchmarks.cases.judge import Made, verdict
from pipelines.benchmarks.cases.phantoms import affine_ras, phantom

RIGHT = Made(phantom(affine_ras(), Expected().shape), affine_ras())
FALSE = Made(RIGHT.array_IJK[:, :, ::-1], affine_ras())
SCOUT = Made(RIGHT.array_IJK[:, :, :1], affine_ras())


def test_it_prints_a_table_and_writes_it(tmp_path, capsys):
    out = tmp_path / "tables" / "edge_cases.json"
    status = edge_cases.main(["--only", "14", "N1", "--out", str(out)])
    result = json.loads(out.read_text())
    found = {row["row"]: row["tools"] for row in result["rows"]}
    assert found["14"]["medssl"] == found["N1"]["medssl"] == "ok"
    assert status == 0
    assert found["N1"]["dcm2niix"] == "-"
    assert found["N1"]["SimpleITK"] == "ok"
    assert found["14"]["SimpleITK"] == "WRONG"
    assert result["counts"]["SimpleITK"] == {"ok": 1, "WRONG": 1}
    assert "duplicate slice, new UID" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("made", "expect", "word"),
    [
        ([RIGHT], converts(), "ok"),
        ([RIGHT, SCOUT], converts(), "ok"),
        ([FALSE], converts(), "WRONG"),
        ([RIGHT, FALSE], converts(), "WRONG"),
        ([RIGHT], converts(Expected(), Expected()), "part"),
        ([SCOUT], converts(), "WRONG"),
        ([], converts(), "0"),
        ("ValueError: no", converts(), "err"),
        ([RIGHT], refuses("patient_conflict"), "WRONG"),
        ([RIGHT], refuses("missing_slices", 11, Expected()), "ok"),
        ([RIGHT], skips("projection"), "kept"),
    ],
)
def test_verdicts(made, expect, word):
    assert verdict(made, expect, expect.volumes) == word
