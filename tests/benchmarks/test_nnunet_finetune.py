"""nnU-Net itself plans, preprocesses and trains from an export, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.benchmarks import nnunet_finetune
from tests.export.encoders import exported, write_run

ROOT = Path(__file__).resolve().parents[2]
SHORT = ["--cases", "6", "--epochs", "2", "--iterations", "2", "--validation-iterations", "2"]


@pytest.mark.slow
def test_two_epochs_from_an_export_and_from_scratch(tmp_path):
    run = write_run(tmp_path / "run", "unet", with_decoder=True)
    artefact = exported(run, tmp_path / "out", "nnunet", patch_voxels=(16, 16, 16))
    out, work = tmp_path / "numbers.json", tmp_path / "work"
    command = [sys.executable, "-m", nnunet_finetune.__name__, artefact, *SHORT]
    done = subprocess.run(
        [*map(str, command), "--out", str(out), "--work", str(work)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "pretrained" in done.stdout
    curves = json.loads(out.read_text())["curves"]
    for name in nnunet_finetune.SHOWN:
        assert len(curves["pretrained"][name]) == len(curves["scratch"][name]) == 2
    assert curves["pretrained"]["train_losses"] != curves["scratch"]["train_losses"]
    assert all(value >= 0 for curve in curves.values() for value in curve["mean_fg_dice"])
    log = (work / "nnunet.log").read_text()
    assert f"Loading pretrained weights from file  {artefact}/checkpoint_final.pth" in log
    assert "encoder.stages.2.blocks.0.conv2.conv.weight shape" in log
    plans = json.loads(
        (work / "preprocessed" / nnunet_finetune.NAME / "medsslPlans.json").read_text()
    )
    chosen = plans["configurations"]["3d_fullres"]
    assert chosen["patch_size"] == [16, 16, 16]
    assert chosen["architecture"]["arch_kwargs"]["features_per_stage"] == [4, 6, 8]


def test_the_table_shows_both_starts_side_by_side(capsys):
    curve = {"train_losses": [0.5, -0.25], "val_losses": [0.25, 0.0], "mean_fg_dice": [0.1, 0.7]}
    scratch = {name: [value + 1 for value in values] for name, values in curve.items()}
    nnunet_finetune.show({"pretrained": curve, "scratch": scratch})
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│ ")]
    assert [cell.strip() for cell in rows[1].strip("│").split("│")] == [
        "2", "-0.2500", "0.0000", "0.7000", "0.7500", "1.0000", "1.7000",
    ]  # fmt: skip


def test_a_labelled_set_is_laid_out_as_nnunet_wants_it(tmp_path):
    nnunet_finetune.write_raw(nnunet_finetune.HIPPOCAMPUS, tmp_path / "raw", 3)
    described = json.loads((tmp_path / "raw" / "dataset.json").read_text())
    assert described["labels"] == {"background": 0, "Anterior": 1, "Posterior": 2}
    assert described["numTraining"] == 3
    images = sorted(path.name for path in (tmp_path / "raw" / "imagesTr").iterdir())
    labels = sorted(path.name for path in (tmp_path / "raw" / "labelsTr").iterdir())
    assert [name.replace("_0000.nii.gz", ".nii.gz") for name in images] == labels
    assert len(images) == 3
    assert all(path.resolve().is_file() for path in (tmp_path / "raw").rglob("*.nii.gz"))
