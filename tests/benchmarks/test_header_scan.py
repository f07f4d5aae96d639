import json

import pytest

from pipelines.benchmarks import header_scan
from tests import phantoms

AFFINE = phantoms.affine_ras()


def test_it_prints_what_grows_and_writes_json(tmp_path, capsys):
    phantoms.write_dicom(tmp_path / "scans", phantoms.phantom(AFFINE), AFFINE)
    out = tmp_path / "numbers.json"
    header_scan.main(
        [str(tmp_path / "scans"), "--counts", "20", "40", "--rounds", "1", "--out", str(out)]
    )
    assert "exponent of growth" in capsys.readouterr().out
    numbers = json.loads(out.read_text())
    assert [reading["files"] for reading in numbers["grown"]] == [20, 40]
    assert {reading["items"] for reading in numbers["grown"]} == {1}


@pytest.mark.parametrize("power", [1.0, 1.5])
def test_the_exponent_is_that_of_the_growth(power):
    readings = [{"files": n, "s": 3e-4 * n**power} for n in (1e3, 1e4, 1e5)]
    assert header_scan.exponent(readings) == pytest.approx(power)
