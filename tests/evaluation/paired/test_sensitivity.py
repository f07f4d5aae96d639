import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from medssl.evaluation.paired.asking import Asking, every_prompt
from medssl.evaluation.paired.prompts import Finding, PromptSet, Template
from medssl.evaluation.paired.sensitivity import prompt_sensitivity

WAYS = {name: Template(present=f"{name} {{}}", absent=f"{name} no {{}}") for name in "abc"}


def asking(ways, seed=0):
    prompts = PromptSet(templates=ways, findings=(Finding(name="nodule", words=("nodule",)),))
    drawn = np.random.default_rng(seed).standard_normal((20, 4))
    vectors = dict(zip(every_prompt(prompts), drawn, strict=False))
    return Asking(prompts=prompts, vectors=vectors, scale=2.0, bias=None)


def test_templates_are_compared_study_by_study():
    images = np.random.default_rng(1).standard_normal((9, 4))
    ask = asking(WAYS)
    (row,) = prompt_sensitivity(ask, images)
    finding = ask.prompts.findings[0]
    scores = [ask.finding(images, finding, [way]) for way in WAYS.values()]
    ranges = [max(s[n] for s in scores) - min(s[n] for s in scores) for n in range(9)]
    assert row["range"] == pytest.approx(np.mean(ranges))
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = np.mean([spearmanr(scores[a], scores[b]).statistic for a, b in pairs])
    assert row["agreement"] == pytest.approx(expected)


def test_one_template_has_nothing_to_agree_with():
    assert prompt_sensitivity(asking({"a": WAYS["a"]}), np.eye(4)) == []


def test_studies_that_all_score_the_same_have_no_order():
    (row,) = prompt_sensitivity(asking(WAYS), np.ones((3, 4)))
    assert math.isnan(row["agreement"])
