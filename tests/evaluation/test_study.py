"""A study of small phantoms: what lies where, what goes on, what is missing and what is said."""

import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import yaml
from PIL import Image

from medssl.errors import ConfigError, FolderError, MedSSLError, PreemptedError
from medssl.evaluation.study import fan_out as fan_out_module
from medssl.evaluation.study.fan_out import fan_out, fitting, take_gpu
from medssl.evaluation.study.members import KILLED, Member, Outcome
from medssl.evaluation.study.run import StudyConfig, study
from medssl.evaluation.subject import read_subject
from medssl.runs.folder import read_json
from medssl.runs.manifest import Manifest
from medssl.runs.tracking import TrackingConfig
from tests.browsers import needs_browser, photograph, shows
from tests.finetuned import config as finetune_config
from tests.finetuned import write_dataset, write_encoder

FOLDER = "fraction-{}/seed-{}"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A set of ten phantoms and two encoders that differ by their seed."""
    root = tmp_path_factory.mktemp("study")
    for seed in (0, 1):
        write_encoder(root / f"encoder-{seed}", seed=seed)
    return root, write_dataset(root / "balls", cases=10)


@pytest.fixture(autouse=True)
def _without_pictures(monkeypatch):
    """Figures take most of the time of a small study; those of ``done`` are real."""

    def save(_, to, **__):
        Image.new("RGB", (64, 64)).save(to, format="png")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", save)


def config(made, out, study_section=None, **changes):
    root, dataset = made
    base = finetune_config(
        dataset,
        out,
        encoder_from=root / "encoder-0",
        splits={"test": 0.3, "val": 0.2},
        schedule={"steps": 3, "warmup_steps": 1},
        rhythm={"validate_steps": 3, "record_steps": 1, "checkpoint_steps": 3},
    )
    section = {
        "label_fractions": (0.2, 1.0),
        "seeds": (0, 1),
        "permutations": 100,
        "resamples": 100,
    }
    section |= {"workers": "inline"} | (study_section or {})
    return StudyConfig.model_validate(base.model_dump(mode="json") | changes | {"study": section})


@pytest.fixture(scope="module")
def done(made, tmp_path_factory):
    out = tmp_path_factory.mktemp("done") / "study"
    return study(config(made, out)), out


def weights(out):
    return {path: path.stat().st_mtime_ns for path in sorted(out.rglob("model.safetensors"))}


def test_every_member_is_an_ordinary_finetuning_and_an_evaluation_of_it(done):
    _, out = done
    for fraction, train in (("0.2", 1), ("1", 5)):
        for seed in (0, 1):
            folder = out / FOLDER.format(fraction, seed)
            trained = read_subject([folder / "finetune"], "test")
            assert trained.members == ("pretrained", "scratch")
            parts = read_json(folder / "finetune" / "splits.json")["cases"]
            assert [len(parts[name]) for name in ("train", "val", "test")] == [train, 2, 3]
            assert Manifest.read(folder / "finetune").seed == seed
            assert Manifest.read(folder / "evaluate").status == "finished"
            assert (folder / "evaluate" / "report.html").is_file()


def test_fractions_are_nested_and_judged_on_the_same_patients(done):
    _, out = done
    parts = {
        (fraction, seed): read_json(out / FOLDER.format(fraction, seed) / "finetune/splits.json")
        for fraction in ("0.2", "1")
        for seed in (0, 1)
    }
    cases = {member: found["cases"] for member, found in parts.items()}
    for seed in (0, 1):
        assert set(cases["0.2", seed]["train"]) < set(cases["1", seed]["train"])
    assert len({tuple(found["test"]) for found in cases.values()}) == 1


def test_the_table_is_that_of_the_members(done):
    result, out = done
    table, members = pd.read_csv(out / "table.csv"), pd.read_csv(out / "members.csv")
    assert table["patients"].tolist() == [1, 5]
    assert table["seeds"].tolist() == [2, 2]
    assert len(members) == 4
    assert members["problem"].isna().all()
    for fraction, row in table.set_index("fraction").iterrows():
        of = members[members["fraction"] == fraction]
        assert row["difference"] == pytest.approx((of["pretrained"] - of["scratch"]).mean())
        assert result.summary[f"difference_{fraction:g}"] == pytest.approx(
            row["difference"], abs=1e-4
        )
    for _, row in members.iterrows():
        folder = out / row["folder"]
        scores = read_json(folder / "evaluate" / "metrics.json")["scores"]["dice"]
        assert row["scratch"] == pytest.approx(scores["scratch"]["mean"]["value"])
        summary = Manifest.read(folder / "finetune").summary
        assert row["pretrained_val"] == summary["pretrained_val_dice"]
    cases = pd.read_csv(out / "cases.csv")
    assert list(cases.columns[:2]) == ["fraction", "seed"]
    assert len(cases) == 4 * 3 * 2 * 2


def test_the_page_needs_nothing_else_and_says_how_sure_it_is(done):
    result, out = done
    page = (out / "report.html").read_text()
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "<script" not in page
    for fraction in ("0.2", "1"):
        assert result.summary[f"verdict_{fraction}"].replace("'", "&#39;") in page
    for said in ("one and the same pretraining", "Hillis 2007", "Holm", "fraction-0.2/seed-1"):
        assert said in page
    assert "are missing" not in page


@needs_browser
def test_the_page_shows_both_curves(done, tmp_path):
    picture = photograph(done[1] / "report.html", tmp_path)
    assert shows(picture, "#2f6db3") > 100
    assert shows(picture, "#a35c1f") > 100


def test_the_same_again_is_handed_back_whoever_works(made, done):
    assert study(config(made, done[1], {"workers": 2})).skipped


def test_another_plan_is_refused(made, done):
    with pytest.raises(FolderError, match="made otherwise"):
        study(config(made, done[1], optimizer={"lr": 0.5}))


def test_further_seeds_join_those_that_are_there(made, tmp_path):
    out, members = tmp_path / "study", {"label_fractions": (1.0,)}
    study(config(made, out, members | {"seeds": (1,)}))
    before = weights(out)
    result = study(config(made, out, members | {"seeds": (0, 1)}))
    assert (result.skipped, result.summary["members"]) == (False, 2)
    assert before.items() < weights(out).items()
    assert len(weights(out)) == 4


def test_a_member_that_fails_is_a_row_and_is_tried_again(made, tmp_path):
    out = tmp_path / "study"
    failing = out / FOLDER.format("0.2", 1)
    failing.parent.mkdir(parents=True)
    failing.write_text("in the way")
    members = {"label_fractions": (0.2,)}
    result = study(config(made, out, members))
    assert (result.summary["members"], result.summary["missing"]) == (2, 1)
    assert pd.read_csv(out / "table.csv")["seeds"].tolist() == [1]
    assert "One seed does not tell" in result.summary["verdict_0.2"]
    row = pd.read_csv(out / "members.csv").set_index("seed").loc[1]
    assert "cannot write into" in row["problem"]
    assert "1 of 2 members are missing" in (out / "report.html").read_text()
    failing.unlink()
    before = weights(out)
    again = study(config(made, out, members))
    assert (again.skipped, again.summary["missing"]) == (False, 0)
    assert before.items() < weights(out).items()
    assert study(config(made, out, members)).skipped


def test_where_every_member_fails_the_reason_is_said(made, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("a text that may quote a header")

    monkeypatch.setattr("medssl.evaluation.study.members.finetune", fail)
    with pytest.raises(
        MedSSLError, match="all 4 members failed; the first: RuntimeError"
    ) as raised:
        study(config(made, tmp_path / "study"))
    assert "quote" not in str(raised.value)
    assert "medssl finetune" in str(raised.value)


def test_being_told_to_stop_is_no_failure(made, tmp_path, monkeypatch):
    def stop(*_):
        raise PreemptedError("told to stop", hint="again")

    monkeypatch.setattr("medssl.evaluation.study.members.finetune", stop)
    with pytest.raises(PreemptedError):
        study(config(made, tmp_path / "study"))
    assert not (tmp_path / "study" / "report.html").exists()


def test_folds_answer_together_on_those_held_aside(made, tmp_path):
    members = {"folds": 2, "seeds": (0,), "label_fractions": (1.0,)}
    out = tmp_path / "study"
    study(config(made, out, members))
    folder = out / FOLDER.format(1, 0)
    subject = read_subject([folder / f"fold-{n}" / "finetune" for n in range(2)], "test")
    assert len(subject.cases) == 3
    evaluated = yaml.safe_load((folder / "evaluate" / "config.yaml").read_text())
    assert len(evaluated["finetune"]) == 2
    report = read_json(out / "study.json")
    assert report["members"][0]["train_patients"] == report["members"][0]["val_patients"] == 7
    assert "as an ensemble" in (out / "report.html").read_text()


def test_without_anybody_held_aside_each_fold_answers_for_its_own(made, tmp_path):
    members = {"folds": 2, "seeds": (0,), "label_fractions": (1.0,)}
    out = tmp_path / "study"
    study(config(made, out, members, splits={"test": 0.0, "val": 0.2}))
    cases = pd.read_csv(out / "cases.csv")
    assert cases["patient_key"].nunique() == 10
    assert not cases.duplicated(["case_key", "model", "answer"]).any()
    assert "are somewhat too good" in re.sub(r"\s+", " ", (out / "report.html").read_text())


def test_every_seed_may_have_a_pretraining_of_its_own(made, tmp_path):
    root, _ = made
    varied = {"encoder_from": root / "encoder-{seed}"}
    out = tmp_path / "study"
    study(config(made, out, {"label_fractions": (1.0,)}, **varied))
    digests = [
        Manifest.read(out / FOLDER.format(1, seed) / "finetune").inputs["encoder"]
        for seed in (0, 1)
    ]
    assert len(set(digests)) == 2
    assert list(read_json(out / "study.json")["encoder"]["digests"].values()) == digests
    assert "Every seed begins from a pretraining of its own" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("section", "changes", "said"),
    [
        ({"label_fractions": (0.2, 0.1)}, {}, r"0\.2 and 0\.1 are the same: 1 patient"),
        ({}, {"splits": {"test": 0.0, "val": 0.2}}, "no patient is held aside to judge by"),
        ({}, {"patch_voxels": (15, 16, 16)}, "make every size a multiple"),
    ],
)
def test_what_would_stop_every_member_stops_the_study_at_once(
    made, tmp_path, section, changes, said
):
    with pytest.raises(ConfigError, match=said):
        study(config(made, tmp_path / "study", section, **changes))
    assert not (tmp_path / "study").exists()


def test_encoders_of_different_kinds_are_no_study(made, tmp_path):
    write_encoder(tmp_path / "encoder-0")
    write_encoder(tmp_path / "encoder-1", width=8)
    with pytest.raises(ConfigError, match="are not all alike"):
        study(config(made, tmp_path / "study", encoder_from=tmp_path / "encoder-{seed}"))


@pytest.mark.slow
def test_members_nest_under_the_study_from_other_processes(made, tmp_path):
    from mlflow.tracking import MlflowClient

    tracking = {"enabled": True, "uri": f"sqlite:///{tmp_path / 'mlflow.db'}", "system_every_s": 0}
    tracked = TrackingConfig(**tracking).model_dump()
    members = {"label_fractions": (1.0,), "workers": 2}
    study(config(made, tmp_path / "study", members, tracking=tracked))
    client = MlflowClient(tracking["uri"])
    runs = client.search_runs([client.get_experiment_by_name("medssl").experiment_id])
    names = {run.info.run_id: run.info.run_name for run in runs}
    tree = sorted((names.get(run.data.tags.get("mlflow.parentRunId")) or "", names[run.info.run_id])
                  for run in runs)  # fmt: skip
    both = [f"100 %, seed {seed}" for seed in (0, 1)]
    below = [(member, stage) for member in both for stage in ("evaluate", "finetune")]
    assert tree == sorted([("", "study"), *(("study", member) for member in both), *below])
    assert {run.info.status for run in runs} == {"FINISHED"}
    (top,) = (run for run in runs if run.info.run_name == "study")
    assert [point.step for point in client.get_metric_history(top.info.run_id, "difference")] == [5]
    member = next(run for run in runs if run.info.run_name == both[1])
    assert {"pretrained_dice", "scratch_dice"} <= set(member.data.metrics)
    assert (member.data.tags["fraction"], member.data.tags["seed"]) == ("1", "1")


def ready(member, peak_gib=None):
    return Outcome(member=member, peak_gib=peak_gib)


def die(member):
    if member.seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return ready(member)


MEMBERS = [Member(0.5, seed) for seed in range(3)]


@pytest.mark.slow
def test_a_member_that_takes_its_worker_with_it_is_a_row():
    found = list(fan_out(die, MEMBERS, workers=2, accelerator="cpu", told="x"))
    assert {outcome.member.seed: outcome.problem for outcome in found} == {
        0: None,
        1: KILLED,
        2: None,
    }


@pytest.mark.parametrize(
    ("peak_gib", "members", "gpus", "count"),
    [(1.0, 9, 0, 4), (3.0, 9, 0, 2), (3.0, 1, 0, 1), (99.0, 9, 0, 1), (0.5, 9, 2, 2)],
)
def test_as_many_members_run_as_memory_cores_and_gpus_allow(
    monkeypatch, peak_gib, members, gpus, count
):
    monkeypatch.setattr(fan_out_module, "free_memory_gib", lambda: 8.0)
    monkeypatch.setattr(fan_out_module, "available_cores", lambda: 4)
    assert fitting(peak_gib, members, gpus) == count


def test_the_first_member_is_alone_and_says_how_many_fit(monkeypatch):
    calls = []

    def spied(work, rows, *, workers, **_):
        calls.append((len(rows), workers))
        return map(work, rows)

    monkeypatch.setattr(fan_out_module, "map_unordered", spied)
    monkeypatch.setattr(fan_out_module, "fitting", lambda *_: 2)
    list(fan_out(partial(ready, peak_gib=1.0), MEMBERS, workers=0, accelerator="cpu", told="x"))
    assert calls == [(1, 1), (2, 2)]
    calls.clear()
    list(fan_out(ready, MEMBERS, workers=3, accelerator="cpu", told="x"))
    assert calls == [(3, 3)]


def test_a_process_keeps_to_one_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    for _ in range(2):
        take_gpu(5, 3)
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    take_gpu(5, 4)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"


def start(made, out, folder):
    tree = config(made, out, {"workers": 2}, schedule={"steps": 30, "warmup_steps": 1})
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(tree.model_dump(mode="json")))
    command = [sys.executable, "-m", "medssl.cli.main", "finetune", str(file)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    with (folder / "said").open("w") as said:
        return subprocess.Popen(command, env=environment, stdout=said, stderr=said)


def wait_for(found, process):
    deadline = time.monotonic() + 240
    while not found() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.poll() is None


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 75)])
def test_a_study_that_was_ended_goes_on_and_redoes_nothing(made, tmp_path, number, code):
    out = tmp_path / "study"
    process = start(made, out, tmp_path)
    wait_for(lambda: len(weights(out)) >= 2, process)
    process.send_signal(number)
    assert process.wait(timeout=120) == code
    assert "Traceback" not in (tmp_path / "said").read_text()
    before = weights(out)
    assert 2 <= len(before) < 8
    assert start(made, out, tmp_path).wait(timeout=400) == 0
    assert before.items() < weights(out).items()
    assert pd.read_csv(out / "members.csv")["problem"].isna().all()


@pytest.mark.slow
def test_a_cluster_trains_the_members(made, tmp_path):
    from tests.clusters import DaskCluster

    (tmp_path / "dask").mkdir()
    cluster = DaskCluster(tmp_path / "dask")
    try:
        cluster.add_workers(2)
        members = {"workers": cluster.address, "label_fractions": (1.0,)}
        result = study(config(made, tmp_path / "study", members))
    finally:
        cluster.stop()
    assert (result.summary["members"], result.summary["missing"]) == (2, 0)
