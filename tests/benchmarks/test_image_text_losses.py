"""The benchmark measures what it says, on a batch small enough for a test."""

import json

import pytest

from pipelines.benchmarks import image_text_losses

TINY = ["--batch", "8", "--dim", "12", "--side", "16", "--width", "24", "--depth", "1"]


def test_all_losses_are_measured_and_numbers_are_written(tmp_path, capsys):
    out = tmp_path / "numbers" / "losses.json"
    status = image_text_losses.main(
        [*TINY, "--rounds", "2", "--step-rounds", "2", "--out", str(out)]
    )
    result = json.loads(out.read_text())
    assert list(result["rows"]) == ["plain InfoNCE", "info_nce", "multi_positive", "siglip", "dcl"]
    for parts in result["rows"].values():
        assert all(parts[kind]["cpu_ms"] > 0 < parts[kind]["ratio"] for kind in ("alone", "step"))
    plain, ours = result["rows"]["plain InfoNCE"], result["rows"]["multi_positive"]
    assert plain["step"]["ratio"] == 1
    assert plain["added"] == 0
    more = ours["alone"]["cpu_ms"] - plain["alone"]["cpu_ms"]
    assert ours["added"] == pytest.approx(more / plain["step"]["cpu_ms"])
    assert result["difference"] <= 1e-12
    assert 0 < result["false_negative_rate"] <= 1
    assert status == (0 if result["holds"] else 1)
    assert "at most 3% to a step with plain InfoNCE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more_ms", "differs", "status"), [(3.0, 0.0, 0), (3.1, 0.0, 1), (0.0, 1e-6, 1)]
)
def test_what_is_added_decides_and_the_values_must_agree(monkeypatch, more_ms, differs, status):
    def measured(more_ms):
        found = {name: {"cpu_ms": 100.0, "ratio": 1.0} for name in image_text_losses.FORMS}
        found["multi_positive"]["cpu_ms"] += more_ms
        return lambda _: found

    monkeypatch.setattr(image_text_losses, "loss_alone", measured(more_ms))
    monkeypatch.setattr(image_text_losses, "training_step", measured(50.0))
    monkeypatch.setattr(image_text_losses, "difference", lambda *_: differs)
    assert image_text_losses.main(TINY) == status
