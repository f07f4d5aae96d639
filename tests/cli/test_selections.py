"""explain, diff, audit-leakage and the options of curate, as they are typed."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from medssl.cli.main import app
from medssl.curation.curate import curate
from tests.curation.libraries import Scan, blobs, curate_config, resampled, write_library

HIPPOCAMPUS = Path(__file__).resolve().parents[3] / "shared/data/segmentation/hippocampus"


@pytest.fixture
def command(monkeypatch):
    """Call the command line in this process, without touching its logging."""
    monkeypatch.setattr("medssl.cli.console.set_up", lambda **_: None)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def library(tmp_path):
    scans = {
        "aaaa": Scan(blobs(1), "one"),
        "bbbb": Scan(resampled(blobs(1), 1.3), "two"),
        "cccc": Scan(blobs(2), "three"),
    }
    return write_library(tmp_path / "lib", scans)


@pytest.mark.parametrize("name", ["explain", "diff", "audit-leakage", "curate"])
def test_help_answers_and_tells_the_exit_codes(command, name):
    answer = command(name, "--help")
    assert answer.exit_code == 0
    assert "Exit codes" in answer.output or name == "curate"


def test_explain_tells_and_writes_a_page(command, library, tmp_path):
    curate(curate_config(library, "main"))
    page = tmp_path / "why.html"
    answer = command("explain", "bb", "--library", library, "--name", "main", "--out", page)
    assert answer.exit_code == 0, answer.output
    assert "dropped: a copy of a kept volume aaaa" in answer.output
    assert "data:image/png" in page.read_text(encoding="utf-8")
    answer = command("explain", "zz", "--library", library, "--name", "main")
    assert answer.exit_code == 1
    assert "knows no volume 'zz'" in answer.output
    assert "Traceback" not in answer.output


def test_diff_counts_and_lists(command, library, tmp_path):
    curate(curate_config(library, "one"))
    curate(curate_config(library, "two", withdraw=["aaaa"]))
    out = tmp_path / "changes.csv"
    answer = command("diff", "one", "two", "--library", library, "--out", out)
    assert answer.exit_code == 0, answer.output
    assert "left: 1\n  aaaa  kept in train -> exclude: withdrawn" in answer.output
    assert "entered: 1" in answer.output
    assert len(out.read_text().splitlines()) == 3
    assert "nothing differs" in command("diff", "one", "one", "--library", library).output


def test_releasing_and_building_on_it(command, library):
    typed = ("curate", library, "tracking.enabled=false", "workers=1", "--name")
    assert command(*typed, "v1", "--release").exit_code == 0
    answer = command(*typed, "v1", "splits.seed=3", "--overwrite")
    assert answer.exit_code == 1
    assert "medssl curate LIBRARY --name NEW based_on=v1" in answer.output
    answer = command(*typed, "v2", "based_on=v1", "withdraw=[three]")
    assert answer.exit_code == 0, answer.output
    assert "out: withdrawn" in answer.output


def test_a_review_is_taken_in_and_its_mistakes_told(command, library, tmp_path):
    review = tmp_path / "judged.csv"
    review.write_text("volume_a,volume_b,judgement\naaaa,bbbb,different\n")
    typed = ("curate", library, "tracking.enabled=false", "workers=1", "--name", "r")
    answer = command(*typed, "--review", review)
    assert answer.exit_code == 0, answer.output
    assert "judged" in answer.output
    review.write_text("volume_a,volume_b,judgement\naaaa,bbbb,maybe\n")
    answer = command(*typed, "--review", review, "--overwrite")
    assert answer.exit_code == 1
    assert "line 2: 'maybe' is no judgement" in answer.output


def decathlon(folder, training, test):
    """Write a data set of NIfTI files below ``folder``; values are arrays."""
    (folder / "images").mkdir(parents=True)
    for name, array in (training | test).items():
        nib.save(nib.Nifti1Image(array, np.eye(4)), folder / "images" / f"{name}.nii.gz")
    listed = [[{"image": f"./images/{name}.nii.gz"} for name in part] for part in (training, test)]
    tree = {"modality": {"0": "MRI"}, "training": listed[0]}
    tree["test"] = [entry["image"] for entry in listed[1]]
    (folder / "dataset.json").write_text(json.dumps(tree))
    return folder / "dataset.json"


def bodies(*seeds):
    return {f"case{seed}": blobs(seed).array_IJK for seed in seeds}


def test_a_leak_between_training_and_test_is_named(command, tmp_path):
    exported = {"renamed": blobs(2).array_IJK.astype(np.float32) * 2 + 5}
    described = decathlon(tmp_path / "set", bodies(1, 2, 3), bodies(4) | exported)
    out = tmp_path / "found.json"
    answer = command("audit-leakage", f"{described}:training", f"{described}:test", "--out", out)
    assert answer.exit_code == 1, answer.output
    assert "test case 2 and training case 2: the same voxels in another file" in answer.output
    assert "1 of B leak" in answer.output
    (found,) = json.loads(out.read_text())["shared"]
    assert found["leaks"]
    assert found["kind"] == "re_export"


def test_a_clean_pair_passes(command, tmp_path):
    described = decathlon(tmp_path / "set", bodies(1, 2), bodies(3, 4))
    answer = command("audit-leakage", f"{described}:training", f"{described}:test")
    assert answer.exit_code == 0, answer.output
    assert answer.output.strip() == "nothing leaks"


def test_a_folder_against_a_selection(command, library, tmp_path):
    curate(curate_config(library, "main", splits={"val": 0.5, "test": 0.0}))
    (tmp_path / "files").mkdir()
    volume = blobs(2)
    image = nib.Nifti1Image(volume.array_IJK, volume.affine_ras)
    nib.save(image, tmp_path / "files" / "downloaded.nii.gz")
    (tmp_path / "files" / "notes.txt").write_text("no scan")
    typed = (tmp_path / "files", "modalities={'*': CT}")
    answer = command("audit-leakage", f"{library}:main", *typed)
    assert answer.exit_code == 1, answer.output
    assert "downloaded.nii.gz and volume cccc: the same" in answer.output
    assert "not compared, of B: " in answer.output
    splits = [command("audit-leakage", f"{library}:main:{s}", *typed) for s in ("train", "val")]
    assert sorted(answer.exit_code for answer in splits) == [0, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nowhere", "there is no nowhere"),
        ("{library}:none", "the library has no selection 'none'"),
        ("{set}:testing", "lists no testing"),
        ("{empty}", "no scan could be read"),
    ],
)
def test_what_cannot_be_compared_says_why(command, library, tmp_path, text, message):
    described = decathlon(tmp_path / "set", bodies(1), bodies(2))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no scan")
    text = text.format(library=library, set=described, empty=tmp_path / "empty")
    answer = command("audit-leakage", library, text)
    assert answer.exit_code == 1
    assert message in answer.output
    assert "Traceback" not in answer.output


@pytest.mark.skipif(not HIPPOCAMPUS.is_dir(), reason="needs ../shared/data/segmentation")
@pytest.mark.slow
def test_real_hippocampi(command, tmp_path):
    """Crops of one place in many heads look alike, and are no leak; a planted one is found."""
    described = json.loads((HIPPOCAMPUS / "dataset.json").read_text())
    images = [HIPPOCAMPUS / entry["image"] for entry in described["training"]]
    folder = tmp_path / "set"
    folder.mkdir()
    described["training"] = [{"image": str(path)} for path in images[:60]]
    described["test"] = [{"image": str(path)} for path in images[60:100]]
    (folder / "dataset.json").write_text(json.dumps(described))
    train, test = (f"{folder / 'dataset.json'}:{part}" for part in ("training", "test"))
    answer = command("audit-leakage", train, test)
    assert answer.exit_code == 0, answer.output
    shutil.copy(images[7], folder / "innocent.nii.gz")
    described["test"] += [str(folder / "innocent.nii.gz")]
    (folder / "dataset.json").write_text(json.dumps(described))
    answer = command("audit-leakage", train, test)
    assert answer.exit_code == 1
    assert "test case 41 and training case 8: the same file" in answer.output


def test_calibrating_on_too_little_says_nothing(command, library):
    answer = command("calibrate", library, "--workers", "1")
    assert answer.exit_code == 1
    assert "pairs of one acquisition" in answer.output or "comparable pairs" in answer.output
    assert "Traceback" not in answer.output
    assert command("calibrate", "--help").exit_code == 0


def test_calibrated_thresholds_are_ready_to_use(command, library, tmp_path, monkeypatch):
    from medssl.config.load import load
    from medssl.curation.calibrate import Calibration
    from medssl.curation.curate import CurateConfig

    found = Calibration(
        copies=40, strangers=200, copy_ncc=0.995, copy_motion_voxels=0.1, recall=0.9,
        false_positive_rate=0.01, recall_before=0.8, false_positive_rate_before=0.02,
    )  # fmt: skip
    monkeypatch.setattr("medssl.cli.calibration.calibrate", lambda *_, **__: found)
    out = tmp_path / "thresholds.yaml"
    answer = command("calibrate", library, "--out", out)
    assert answer.exit_code == 0, answer.output
    assert "find 90.0% of the copies, and 1.00% of the strangers pass" in answer.output
    config = load(CurateConfig, out, [f"library={library}", "name=x"])
    assert config.near_duplicate.same_patient_ncc >= config.near_duplicate.copy_ncc == 0.995
