import multiprocessing
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import Field

from medssl.config.base import Config
from medssl.errors import FolderError, PreemptedError
from medssl.runs.folder import read_json
from medssl.runs.manifest import Manifest
from medssl.runs.stage import StageResult, flatten, open_stage
from medssl.runs.tracking import TrackingConfig

OFF = TrackingConfig(enabled=False)


class Example(Config):
    seed: int = 7
    lr: float = 0.1
    workers: int = 1
    sources: tuple[Path, ...] = ()
    exclude: tuple[str, ...] = ()
    modalities: dict[str, str] = Field(default_factory=dict)
    patient_pattern: str | None = None
    tracking: TrackingConfig = OFF


DEFAULT = Example()


def run(folder, config=DEFAULT, *, stage="example", inputs=None, fail=None, **options: Any):
    """Do a small stage; return (previous or new result, resumed)."""
    given = {"store": "abc"} if inputs is None else inputs
    with open_stage(stage, folder, config, inputs=given, tracking=OFF, **options) as stage_run:
        if stage_run.previous is not None:
            return stage_run.previous, stage_run.resumed
        (folder / "result.txt").write_text("x")
        if fail:
            raise fail
        result = stage_run.finish(
            summary={"count": 3, "best": 0.5, "kind": "toy"},
            look_at={"result": "result.txt"},
            outputs={"result": "def"},
        )
        return result, stage_run.resumed


def test_a_run_leaves_its_config_and_a_manifest(tmp_path):
    result, resumed = run(tmp_path / "out")
    assert result == StageResult(
        "example",
        tmp_path / "out",
        {"count": 3, "best": 0.5, "kind": "toy"},
        {"result": "result.txt"},
    )
    assert not resumed
    assert yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())["lr"] == 0.1
    manifest = Manifest.read(tmp_path / "out")
    assert manifest.status == "finished"
    assert manifest.seed == 7
    assert manifest.inputs == {"store": "abc"}
    assert manifest.outputs == {"result": "def"}
    assert manifest.versions["package.torch"]
    assert manifest.started_at <= manifest.finished_at


def test_the_same_again_is_handed_back_and_nothing_is_touched(tmp_path):
    first, _ = run(tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.iterdir() if p.name != ".lock"}
    again, _ = run(tmp_path)
    assert again.skipped
    assert (again.summary, again.look_at) == (first.summary, first.look_at)
    assert {p: p.stat().st_mtime_ns for p in before} == before


@pytest.mark.parametrize("change", [{"workers": 8}, {"tracking": TrackingConfig(experiment="x")}])
def test_what_cannot_change_the_result_does_not_count_as_a_change(tmp_path, change):
    run(tmp_path)
    assert run(tmp_path, Example(**change))[0].skipped


def test_the_number_of_devices_and_of_loaders_is_no_change_wherever_it_stands(tmp_path):
    class Engine(Config):
        devices: int = 1
        precision: str = "32-true"

    class Training(Example):
        engine: Engine = Engine()

    run(tmp_path, Training())
    assert run(tmp_path, Training(engine=Engine(devices=64)))[0].skipped
    with pytest.raises(FolderError, match=r"engine\.precision: was 32-true, now 16"):
        run(tmp_path, Training(engine=Engine(precision="16")))


def test_another_config_or_input_is_refused_and_named(tmp_path):
    run(tmp_path)
    with pytest.raises(FolderError) as caught:
        run(tmp_path, Example(lr=0.2), inputs={"store": "xyz", "more": "1"})
    text = str(caught.value)
    assert "lr: was 0.1, now 0.2" in text
    assert "input store: was abc, now xyz" in text
    assert "input more: was not set, now 1" in text
    assert "--overwrite" in text
    assert "seed" not in text


def test_many_changes_are_cut_short(tmp_path):
    run(tmp_path)
    with pytest.raises(FolderError, match="and 9 more"):
        run(tmp_path, inputs={str(n): "x" for n in range(20)})


def test_overwrite_empties_the_folder(tmp_path):
    run(tmp_path)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "file").touch()
    result, resumed = run(tmp_path, Example(lr=0.2), overwrite=True)
    assert not result.skipped
    assert not resumed
    assert not (tmp_path / "old").exists()
    assert Manifest.read(tmp_path).config["lr"] == 0.2


def test_overwrite_of_the_same_starts_from_nothing(tmp_path):
    run(tmp_path)
    (tmp_path / "old").touch()
    result, resumed = run(tmp_path, overwrite=True)
    assert not result.skipped
    assert not resumed
    assert not (tmp_path / "old").exists()


@pytest.mark.parametrize(
    ("error", "goes_on"),
    [
        (KeyboardInterrupt(), True),
        (PreemptedError("told to stop", hint="again"), True),
        (ConnectionAbortedError(), False),
    ],
)
def test_overwrite_goes_on_with_what_was_interrupted_and_did_not_fail(tmp_path, error, goes_on):
    """So that a job that is started again by the same command loses nothing."""
    with pytest.raises(type(error)):
        run(tmp_path, fail=error)
    (tmp_path / "half").touch()
    result, resumed = run(tmp_path, overwrite=True)
    assert not result.skipped
    assert resumed == goes_on
    assert (tmp_path / "half").exists() == goes_on


def test_overwrite_never_empties_a_folder_that_is_not_ours(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    run(tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_the_folder_of_another_stage_is_refused_even_to_overwrite(tmp_path):
    run(tmp_path, stage="ingest")
    with pytest.raises(FolderError, match="holds the result of 'ingest', not of 'pretrain'"):
        run(tmp_path, stage="pretrain", overwrite=True)
    with pytest.raises(FolderError, match="choose another folder"):
        run(tmp_path, stage="pretrain", incremental=True)


def test_a_failure_is_recorded_and_the_same_command_resumes(tmp_path):
    with pytest.raises(ValueError, match="DOE"):
        run(tmp_path, fail=ValueError("cannot read /data/DOE^JOHN"))
    manifest = Manifest.read(tmp_path)
    assert (manifest.status, manifest.error) == ("failed", "ValueError")
    assert "DOE" not in (tmp_path / "manifest.json").read_text()
    _, resumed = run(tmp_path)
    assert resumed
    assert Manifest.read(tmp_path).error is None


def test_an_interrupted_stage_resumes(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, fail=KeyboardInterrupt())
    assert Manifest.read(tmp_path).status == "failed"
    assert run(tmp_path)[1]


def test_a_killed_stage_resumes_and_half_written_files_go(tmp_path):
    run(tmp_path)
    manifest = Manifest.read(tmp_path)
    manifest.status = "running"
    manifest.write(tmp_path)
    (tmp_path / ".partial-x").touch()
    assert run(tmp_path)[1]
    assert not (tmp_path / ".partial-x").exists()


def test_an_unfinished_run_of_something_else_is_refused(tmp_path):
    with pytest.raises(KeyError):
        run(tmp_path, fail=KeyError("x"))
    with pytest.raises(FolderError, match=r"lr: was 0\.1, now 0\.3"):
        run(tmp_path, Example(lr=0.3))


def test_incremental_adds_to_the_folder_and_never_empties_it(tmp_path):
    run(tmp_path, incremental=True)
    (tmp_path / "volumes").mkdir()
    for options in ({}, {"overwrite": True}):
        result, resumed = run(tmp_path, inputs={"store": str(options)}, incremental=True, **options)
        assert not result.skipped
        assert not resumed
        assert (tmp_path / "volumes").exists()
    assert run(tmp_path, inputs={"store": "{'overwrite': True}"}, incremental=True)[0].skipped


def test_a_stage_that_forgets_to_finish_is_a_bug(tmp_path):
    with (
        pytest.raises(RuntimeError, match="without calling finish"),
        open_stage("example", tmp_path, Example(), inputs={}, tracking=OFF),
    ):
        pass
    assert Manifest.read(tmp_path).status == "failed"


def _hold(folder, held, release):
    with open_stage("example", folder, Example(), inputs={}, tracking=OFF) as stage_run:
        held.set()
        release.wait(30)
        stage_run.finish(summary={})


def test_two_processes_cannot_share_a_folder(tmp_path):
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, held, release))
    other.start()
    assert held.wait(60)
    with pytest.raises(FolderError, match=rf"in use by another process \(process {other.pid}\)"):
        run(tmp_path)
    release.set()
    other.join()
    assert run(tmp_path, inputs={})[0].skipped


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FolderError, match="cannot write into"):
        run(tmp_path / "file" / "out")


def test_a_damaged_manifest_says_so(tmp_path):
    (tmp_path / "manifest.json").write_text('{"format_version": 99}')
    with pytest.raises(FolderError, match="not a manifest that this version"):
        run(tmp_path)


def test_paths_of_raw_scans_stay_in_the_private_folder(tmp_path):
    run(tmp_path, Example(sources=(Path("/data/DOE^JOHN"),)))
    private = tmp_path / "private" / "config.yaml"
    assert "DOE^JOHN" in private.read_text()
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert stat.S_IMODE(private.parent.stat().st_mode) == 0o700
    others = [p for p in tmp_path.rglob("*") if p.is_file() and p != private]
    assert others
    assert not any("DOE" in p.read_text() for p in others)
    assert read_json(tmp_path / "manifest.json")["config"]["sources"].startswith("not recorded")


PATTERNS = {
    "exclude": ("*DOE*",),
    "modalities": {"DOE/*": "CT", "*": "MR"},
    "patient_pattern": "(?P<patient>DOE)",
}


def test_patterns_on_paths_stay_in_the_private_folder(tmp_path):
    run(tmp_path, Example(**PATTERNS))
    private = tmp_path / "private" / "config.yaml"
    assert private.read_text().count("DOE") == 3
    others = [p for p in tmp_path.rglob("*") if p.is_file() and p != private]
    assert not any("DOE" in p.read_text() for p in others)
    shown = read_json(tmp_path / "manifest.json")["config"]
    assert shown["modalities"] == "not recorded here (2 values); see private/config.yaml"
    assert read_json(tmp_path / "manifest.json")["config"]["sources"] == []
    again, _ = run(tmp_path, Example(**PATTERNS))
    assert again.skipped
    with pytest.raises(FolderError, match=r'exclude: was \["\*DOE\*"\], now \["b"\]'):
        run(tmp_path, Example(**(PATTERNS | {"exclude": ("b",)})))


def test_another_source_is_named_to_the_person_who_typed_it(tmp_path):
    run(tmp_path, Example(sources=(Path("/data/a"),)))
    with pytest.raises(FolderError, match=r'sources: was \["/data/a"\], now \["/data/b"\]'):
        run(tmp_path, Example(sources=(Path("/data/b"),)))


def test_other_ranks_take_part_without_touching_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with open_stage("example", tmp_path / "out", Example(), inputs={}, tracking=OFF) as stage_run:
        assert stage_run.finish(summary={"a": 1}).summary == {"a": 1}
    assert not (tmp_path / "out").exists()


def test_flatten_makes_dotted_keys():
    tree = {"a": 1, "b": {"c": {"d": 2}, "e": [1, {"f": 2}]}, "g": {}}
    assert flatten(tree) == {"a": 1, "b.c.d": 2, "b.e": '[1, {"f": 2}]', "g": "{}"}
