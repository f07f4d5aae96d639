import json
from types import SimpleNamespace

import pytest

from medssl import pipeline
from medssl.config.load import validate
from medssl.errors import ConfigError, FolderError, InputError
from medssl.pipeline import PipelineConfig, run_pipeline, wire
from medssl.runs.stage import open_stage
from medssl.runs.tracking import TrackingConfig

WHOLE = {
    "work": "w",
    "ingest": {
        "sources": ["scans/DOE"],
        "exclude": ["*DOE*"],
        "modalities": {"DOE/*": "CT"},
        "patient_pattern": "(?P<patient>DOE)",
    },
    "curate": {},
    "prepare": {},
    "pretrain": {"method": {"name": "voco"}, "encoder": {"name": "segresnet"}},
    "finetune": {
        "dataset": "d.json",
        "preprocessing": {"intensity": {"name": "mr"}},
    },
    "evaluate": {},
    "export": [{"format": {"name": "encoder_folder"}}, {"format": {"name": "monai_bundle"}}],
    "predict": {"inputs": ["a.nii.gz"]},
    "tracking": {"enabled": False},
}


def config(tmp_path, **changes):
    tree = WHOLE | {"work": str(tmp_path / "w")} | changes
    return validate(PipelineConfig, {k: v for k, v in tree.items() if v is not None}, where="here")


def test_paths_between_stages_follow_from_the_working_folder(tmp_path):
    whole, work = config(tmp_path), tmp_path / "w"
    assert whole.ingest.library == whole.curate.library == whole.prepare.library == work / "library"
    assert whole.curate.name == whole.prepare.selection == "main"
    assert whole.pretrain.store == whole.prepare.out == work / "store"
    assert whole.finetune.encoder_from == whole.pretrain.out == work / "pretrain"
    assert whole.evaluate.finetune == (whole.finetune.out,)
    assert [item.run for item in whole.export] == [work / "pretrain", work / "finetune/pretrained"]
    assert whole.predict.model == str(whole.export[1].artefact)
    assert len({config.out for _, config in whole.stages() if hasattr(config, "out")}) == 7


def test_formats_of_encoders_export_the_pretraining(tmp_path):
    forms = ("encoder_folder", "image_text", "nnunet", "swin_ssl", "voco")
    whole = config(tmp_path, predict=None, export=[{"format": {"name": form}} for form in forms])
    assert {item.run for item in whole.export} == {tmp_path / "w" / "pretrain"}
    assert [item.out.name for item in whole.export] == list(forms)


WITH_REPORTS = {
    "pair": {"sources": {"path": "r.csv", "key": "k", "text": "t"}},
    "pretrain": {
        "method": {"name": "report_contrast"},
        "encoder": {"name": "segresnet"},
        "pairs": {"most_normal": 0.5},
    },
    "zeroshot": {"findings": "f.yaml"},
    "embed": {},
    "finetune": None,
    "evaluate": None,
    "export": None,
    "predict": None,
}


def test_reports_go_through_a_pipeline_as_well(tmp_path):
    whole, work = config(tmp_path, **WITH_REPORTS), tmp_path / "w"
    assert [name for name, _ in whole.stages()] == [
        "ingest",
        "curate",
        "pair",
        "prepare",
        "pretrain",
        "zeroshot",
        "embed",
    ]
    assert whole.pair.library == work / "library"
    assert whole.pair.key_file == whole.ingest.key_file
    assert whole.pair.selection == "main"
    assert whole.pretrain.pairs.folder == whole.pair.out == work / "pairs"
    assert whole.pretrain.pairs.most_normal == 0.5
    for stage in (whole.zeroshot, whole.embed):
        assert (stage.model, stage.pairs, stage.store) == (
            work / "pretrain",
            work / "pairs",
            work / "store",
        )
    assert whole.zeroshot.out != whole.embed.out
    tree = {"work": "w", **WITH_REPORTS}
    wire(tree)
    assert WITH_REPORTS["pretrain"]["pairs"] == {"most_normal": 0.5}


def test_scans_that_are_embedded_without_reports_need_no_pairs(tmp_path):
    whole = config(tmp_path, **WITH_REPORTS | {"embed": {"inputs": ["a.nii.gz"]}})
    assert (whole.embed.pairs, whole.embed.store) == (None, None)


def test_what_is_set_is_kept_and_carried_on(tmp_path):
    whole = config(
        tmp_path,
        ingest={"sources": ["x"], "library": "/big/disk", "key_file": "k"},
        curate={"name": "chests"},
        export=[{"format": {"name": "monai_bundle"}, "name": "mine", "out": "o"}],
    )
    assert str(whole.prepare.library) == "/big/disk"
    assert str(whole.ingest.key_file) == "k"
    assert whole.prepare.selection == "chests"
    assert str(whole.predict.model) == "o/mine"


def test_wiring_does_not_change_what_it_is_given():
    tree = json.loads(json.dumps(WHOLE))
    wire(tree)
    assert tree == WHOLE


def test_an_absent_section_is_a_stage_that_is_not_run(tmp_path):
    some = config(tmp_path, predict=None, evaluate=None, export=None)
    assert [name for name, _ in some.stages()] == [
        "ingest",
        "curate",
        "prepare",
        "pretrain",
        "finetune",
    ]


def test_what_an_absent_stage_would_have_made_must_be_named(tmp_path):
    with pytest.raises(ConfigError, match=r"pretrain\.store: required, but not set"):
        config(tmp_path, prepare=None)
    kept = config(tmp_path, prepare=None, pretrain=WHOLE["pretrain"] | {"store": "made/before"})
    assert str(kept.pretrain.store) == "made/before"


def test_mistakes_of_all_sections_come_at_once(tmp_path):
    with pytest.raises(ConfigError) as caught:
        config(
            tmp_path,
            curate={"nam": "x"},
            predict={},
            export=[{"format": {"name": "onyx"}}],
            pretrian={},
        )
    text = str(caught.value)
    assert "curate.nam: unknown key. Did you mean 'name'?" in text
    assert "predict.inputs: required, but not set" in text
    assert "export.0.format: unknown name 'onyx'." in text
    assert "pretrian: unknown key. Did you mean 'pretrain'?" in text


@pytest.fixture
def toy(monkeypatch):
    """Stages that write a file; ``toy.fails`` names one that fails, ``toy.ran`` lists them."""

    toy = SimpleNamespace(ran=[], fails="")

    def make(name):
        def stage(config, *, overwrite=False):
            folder = getattr(config, "out", None) or config.library
            folder = folder / config.name if name == "curate" else folder
            with open_stage(
                name,
                folder,
                config,
                inputs={"x": "1"},
                tracking=TrackingConfig(enabled=False),
                overwrite=overwrite,
            ) as run:
                if run.previous:
                    return run.previous
                if toy.fails == name:
                    raise InputError("nothing to read")
                toy.ran.append(name)
                (folder / "result.txt").write_text(name)
                return run.finish(summary={"count": 1}, look_at={"result": "result.txt"})

        return stage

    monkeypatch.setattr(pipeline, "STAGES", {name: make(name) for name in pipeline.STAGES})
    return toy


def test_stages_run_in_order_and_leave_a_table(tmp_path, toy):
    results = run_pipeline(config(tmp_path))
    order = ["ingest", "curate", "prepare", "pretrain", "finetune", "evaluate"]
    assert toy.ran == [*order, "export", "export", "predict"]
    assert not any(result.skipped for result in results)
    table = json.loads((tmp_path / "w" / "results.json").read_text())
    assert [row["folder"] for row in table[-3:]] == [
        "export/encoder_folder",
        "export/monai_bundle",
        "predict",
    ]
    assert "DOE" not in (tmp_path / "w" / "config.yaml").read_text()


def test_what_still_matches_is_skipped(tmp_path, toy):
    run_pipeline(config(tmp_path))
    toy.ran.clear()
    assert all(result.skipped for result in run_pipeline(config(tmp_path)))
    assert toy.ran == []


def test_a_failure_stops_there_and_the_next_run_goes_on_from_there(tmp_path, toy):
    toy.fails = "prepare"
    with pytest.raises(InputError):
        run_pipeline(config(tmp_path))
    assert toy.ran == ["ingest", "curate"]
    toy.fails = ""
    results = run_pipeline(config(tmp_path))
    assert [result.stage for result in results if result.skipped] == ["ingest", "curate"]


def test_a_changed_stage_is_refused_and_with_overwrite_only_it_is_replaced(tmp_path, toy):
    run_pipeline(config(tmp_path))
    toy.ran.clear()
    changed = config(tmp_path, prepare={"margin_mm": 5})
    with pytest.raises(FolderError, match=r"margin_mm: was 10\.0, now 5\.0"):
        run_pipeline(changed)
    run_pipeline(changed, overwrite=True)
    assert toy.ran == ["prepare"]
