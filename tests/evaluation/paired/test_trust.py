import json

import pytest

from medssl.errors import InputError
from medssl.evaluation.paired.prompts import read_prompts
from medssl.evaluation.paired.trust import (
    TrustConfig,
    card_section,
    spread_evenly,
    targets_of,
    trust,
)
from tests.evaluation.paired.test_zeroshot import PROMPTS

TARGETS = [
    "There is an effusion on the left.",
    "No effusion is seen.",
    "There is a nodule on the left.",
    "No nodule is seen.",
]
"""The answers of the question are two of them."""


@pytest.fixture
def config(bright, tmp_path):
    (tmp_path / "prompts.yaml").write_text(PROMPTS)
    return TrustConfig(
        model=bright / "model",
        pairs=bright / "pairs",
        store=bright / "store",
        findings=tmp_path / "prompts.yaml",
        out=tmp_path / "out",
        most_images=4,
        backdoor={"steps": 3},
        fooling={"steps": 3},
        tracking={"enabled": False},
    )


def test_a_model_is_asked_all_questions(config):
    result = trust(config)
    told = json.loads((config.out / "trust.json").read_text())
    assert [row["finding"] for row in told["wording"]] == ["effusion", "nodule"]
    assert len(told["negation"]) == 2
    assert {row["text"] for row in told["backdoor"]["texts"]} == set(TARGETS)
    assert told["fooling"]["images"] == 4
    assert result.look_at["fooling image"] == "fooling.png"
    page = (config.out / "trust.html").read_text()
    assert page.count("data:image/png") == 1
    assert all(line.split(":")[0] in page for line in told["in_words"])
    section = card_section(config.out)
    assert section.count("\n- ") == len(told["in_words"])
    assert trust(config).skipped


def test_checks_can_be_left_out(config):
    trust(config.model_copy(update={"backdoor": None, "fooling": None}))
    told = json.loads((config.out / "trust.json").read_text())
    assert told["backdoor"] is told["fooling"] is None
    assert len(told["in_words"]) == 2


def test_texts_that_images_might_be_drawn_to_come_once(config):
    assert targets_of(read_prompts(config.findings)) == TARGETS


def test_that_there_are_too_few_texts_is_said(config):
    config.findings.write_text(
        """
        templates: {plain: {present: "{}", absent: "no {}"}}
        findings: [{name: effusion, words: [effusion]}]
        """
    )
    trust(config.model_copy(update={"fooling": None}))
    told = json.loads((config.out / "trust.json").read_text())
    assert told["backdoor"] is None
    assert told["in_words"] == [
        "Backdoors: not looked for, since of fewer than 4 texts none can stand out."
    ]


def test_studies_are_taken_evenly():
    assert spread_evenly(tuple(range(10)), 3) == (0, 4, 9)
    assert spread_evenly(tuple(range(2)), 5) == (0, 1)


def test_a_card_of_a_check_that_was_not_made_is_refused(tmp_path):
    with pytest.raises(InputError, match="no result of a trust check"):
        card_section(tmp_path)
