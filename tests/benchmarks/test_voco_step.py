"""The benchmark measures what it says, on a step small enough for a test."""

import json

import pytest
import torch

from pipelines.benchmarks import voco_step, voco_step_side

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


@pytest.mark.parametrize(("ours", "check", "holds"), [(3.0, 5, 1), (2.9, 5, 0), (6.0, 5.1, 0)])
def test_on_a_gpu_the_embeddings_must_be_alike_too(ours, check, holds):
    rows = {
        voco_step.OURS: row(crops_per_s=ours, check=check),
        voco_step.PUBLISHED: row(),
        voco_step.LEAN: row(),
    }
    options = voco_step._options(["--reference", "somewhere", "--device", "cuda"])
    assert voco_step.judge(rows, options)["holds"] == holds


def result(**changes):
    rows = {voco_step.OURS: row(wall_s=1.0, peak_gib=1.0)}
    compared = {"ratio": 4.0, "same_embeddings": True, "claim": "as quick", "holds": True}
    shown = {"volumes": 1, "crops": [1, 9], "crop_voxels": 64, "threads": 1, "device": "cuda"}
    return {"rows": rows, "skipped": None, **shown, **compared, **changes}


def test_embeddings_that_differ_are_said_to(capsys):
    voco_step.show(result())
    assert "embed the same crop differently" not in capsys.readouterr().out
    voco_step.show(result(same_embeddings=False, holds=False))
    assert "embed the same crop differently" in capsys.readouterr().out


@pytest.mark.parametrize(("device", "words"), [("cuda", "not counted"), ("cpu", "GPU only")])
def test_a_share_that_is_not_known_is_said_to_be_so(capsys, device, words):
    voco_step.show(result(device=device))
    assert words in capsys.readouterr().out


def test_the_share_is_told_for_the_size_that_was_counted_alone(monkeypatch):
    monkeypatch.setattr(voco_step_side, "matrix_gflop_per_s", lambda _device: 82.8 * 30)
    cuda = torch.device("cuda")
    share = voco_step_side.matrix_share
    assert share(5.0, {"features": 48, "crop": 64}, cuda) == pytest.approx(0.5)
    assert share(5.0, {"features": 48, "crop": 64}, torch.device("cpu")) is None
    assert share(5.0, {"features": 96, "crop": 64}, cuda) is None
    assert share(5.0, {"features": 48, "crop": 32}, cuda) is None


def test_the_first_matrix_products_are_not_measured(monkeypatch):
    done, at_start = [], []
    product = torch.mm
    monkeypatch.setattr(torch, "mm", lambda a, b: done.append(1) or product(a, b))

    def measured(step, steps, _device):
        at_start.append(len(done))
        for _ in range(steps):
            step()
        return 0.0, 1e-6

    monkeypatch.setattr(voco_step_side, "measured", measured)
    assert voco_step_side.matrix_gflop_per_s(torch.device("cpu"), 10, 2) == pytest.approx(2.0)
    assert at_start == [voco_step_side.WARM_UPS]
    assert len(done) == voco_step_side.WARM_UPS + 2


def test_embeddings_are_compared_without_tf32():
    seen = []

    def embed(x_BCIJK):
        seen.append(torch.backends.cudnn.allow_tf32)
        return x_BCIJK.flatten(1)

    voco_step_side.embedding_sum(embed, torch.ones(2, 1, 2, 2, 2))
    assert seen == [False]


def test_a_folder_without_the_published_code_is_named(tmp_path):
    options = voco_step._options(["--reference", str(tmp_path)])
    assert "voco_head.py" in voco_step.missing(options)
