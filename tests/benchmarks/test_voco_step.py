"""The benchmark measures what it says, on a step small enough for a test."""

import json

import pytest

from pipelines.benchmarks import voco_step

TINY = ["--crops", "1", "--bases", "1", "--features", "12", "--rounds", "1"]


@pytest.mark.slow
def test_without_the_published_code_it_measures_ours_and_says_so(tmp_path, capsys):
    out = tmp_path / "numbers" / "step.json"
    assert voco_step.main([*TINY, "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    assert list(result["rows"]) == ["ours"]
    assert result["rows"]["ours"]["cpu_s"] > 0
    assert result["allocator"]["MALLOC_MMAP_MAX_"] == "0"
    assert "holds" not in result
    assert "nothing to compare with: no --reference" in capsys.readouterr().out


def row(**numbers):
    return {"cpu_s": 1.0, "crops_per_s": 1.0, "check": 5.0} | numbers


@pytest.mark.parametrize(("ours_s", "check", "holds"), [(0.8, 5, 1), (0.81, 5, 0), (0.5, 5.1, 0)])
def test_it_is_judged_by_the_quicker_of_the_published_forms(ours_s, check, holds):
    rows = {
        voco_step.OURS: row(cpu_s=ours_s, check=check),
        voco_step.PUBLISHED: row(cpu_s=1.2),
        voco_step.LEAN: row(cpu_s=1.0),
    }
    options = voco_step._options(["--reference", "somewhere"])
    assert voco_step.judge(rows, options)["holds"] == holds


def test_a_folder_without_the_published_code_is_named(tmp_path):
    options = voco_step._options(["--reference", str(tmp_path)])
    assert "voco_head.py" in voco_step.missing(options)
