import json

import pytest

from medssl.errors import ConfigError, InputError
from medssl.evaluation.paired import studies
from medssl.evaluation.paired.zeroshot import ZeroShotConfig, zeroshot
from medssl.reports.pairs import read_pairs, write_pairs
from tests.evaluation.paired.bright_studies import FINDINGS, SAYS

PROMPTS = f"""
templates:
  seen: {{present: "There is {{}} on the left.", absent: "No {{}} is seen."}}
  other: {{present: "{{}} present.", absent: "{{}} not present."}}
findings:
  - {{name: effusion, words: [an effusion], descriptors: [fluid on the left, effusion]}}
  - {{name: nodule, words: [a nodule]}}
questions:
  - {{name: modality, truth: modality, answers: {{CT: ["{SAYS[0]}"], MR: ["{SAYS[1]}"]}},
      templates: ["{{}}"]}}
"""


@pytest.fixture
def config(bright, tmp_path):
    (tmp_path / "prompts.yaml").write_text(PROMPTS)
    return ZeroShotConfig(
        model=bright / "model",
        pairs=bright / "pairs",
        store=bright / "store",
        findings=tmp_path / "prompts.yaml",
        out=tmp_path / "out",
        least_positive=3,
        resamples=100,
        tracking={"enabled": False},
    )


def test_a_model_that_learned_what_a_square_is_called_tells_of_it(config, monkeypatch):
    result = zeroshot(config)
    told = json.loads((config.out / "zeroshot.json").read_text())
    effusion = told["findings"]["effusion"]
    assert (told["studies"], told["validation_studies"], effusion["positive"]) == (16, 8, 8)
    assert effusion["templates"]["seen"]["value"] > 0.9
    assert 0 < effusion["operating"]["sensitivity"]["value"] <= 1
    assert told["findings"]["nodule"]["auroc"] is None
    assert told["questions"]["modality"]["auroc"]["value"] > 0.9
    assert told["retrieval"]["image_to_report"]["same_words"]["recall@1"]["value"] > 0.9
    assert told["alike"]["image_to_image"]["overlap@1"]["value"] == 1
    assert result.summary["modality_auroc"] > 0.9
    page = (config.out / "zeroshot.html").read_text()
    assert "n/a" in page
    assert page.count("<img") == 2
    assert "data:image/png" in page
    assert "<script" not in page
    assert (config.out / "scores.csv").read_text().count("\n") == 3
    monkeypatch.setattr(studies, "_rows", None)
    assert zeroshot(config).skipped


def test_descriptors_are_looked_for_in_each_volume_of_a_study(config, bright, tmp_path):
    of_two = [
        pair.model_copy(update={"volume_keys": (f"v{n:03d}", f"v{n % 2:03d}")})
        for n, pair in enumerate(read_pairs(bright / "pairs").pairs)
    ]
    write_pairs(tmp_path / "pairs", of_two, FINDINGS)
    told = {}
    for how in ("together", "each"):
        changes = {"pairs": tmp_path / "pairs", "descriptor_views": how, "out": tmp_path / how}
        zeroshot(config.model_copy(update=changes))
        told[how] = json.loads((tmp_path / how / "zeroshot.json").read_text())
    together, each = (told[how]["findings"]["effusion"] for how in ("together", "each"))
    assert each["auroc"] == together["auroc"]
    assert each["descriptors"]["auroc"]["value"] > 0.5
    assert each["descriptors"] != together["descriptors"]


def test_embeddings_are_shared_between_runs(config, tmp_path, monkeypatch):
    kept = {"embeddings": tmp_path / "kept"}
    zeroshot(config.model_copy(update=kept))
    monkeypatch.setattr(studies, "_rows", None)
    other = {"out": tmp_path / "other", "retrieval": None, "shown": 0, **kept}
    zeroshot(config.model_copy(update=other))
    assert json.loads((tmp_path / "other/zeroshot.json").read_text())["retrieval"] is None


def test_a_sigmoid_needs_a_model_that_was_trained_for_it(config):
    with pytest.raises(ConfigError, match="no bias"):
        zeroshot(config.model_copy(update={"score": "sigmoid"}))


def test_a_split_without_studies_is_explained(config):
    with pytest.raises(InputError, match="no study belongs to the split train"):
        zeroshot(config.model_copy(update={"split": "train"}))
