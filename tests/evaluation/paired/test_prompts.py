from pathlib import Path

import pytest

from medssl.errors import ConfigError
from medssl.evaluation.paired.asking import every_prompt
from medssl.evaluation.paired.prompts import Template, fill, read_prompts

CONFIGS = Path(__file__).resolve().parents[3] / "configs/findings"
WORDS = """
templates: {plain: {present: "{} is present.", absent: "No {}."}}
findings: [{name: effusion, words: [effusion, fluid], descriptors: [a blunted angle]}]
questions: [{name: modality, templates: ["{}.", "It is {}."],
  answers: {CT: [a CT], MR: [an MRI, a scan]}}]
"""


def prompts(tmp_path, text):
    path = tmp_path / "prompts.yaml"
    path.write_text(text)
    return read_prompts(path)


def test_every_way_to_ask_is_read(tmp_path):
    assert every_prompt(prompts(tmp_path, WORDS)) == [
        "Effusion is present.",
        "Fluid is present.",
        "No effusion.",
        "No fluid.",
        "There is a blunted angle.",
        "There is no blunted angle.",
        "A CT.",
        "It is a CT.",
        "An MRI.",
        "A scan.",
        "It is an MRI.",
        "It is a scan.",
    ]


def test_braces_in_words_are_words():
    assert fill("{} is there.", "a {x} {}") == "A {x} {} is there."
    with pytest.raises(ValueError, match="once, where the words"):
        Template(present="{} and {}", absent="no {}")


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        (WORDS.replace('"No {}."', '"None."'), "once, where the words"),
        (WORDS.replace("name: modality", "name: effusion"), "asked more than once: effusion"),
        (WORDS.partition("findings")[0], "nothing to ask"),
        (WORDS.replace("CT: [a CT], ", ""), "answers"),
    ],
)
def test_a_file_that_asks_nothing_sensible_is_explained(tmp_path, changed, problem):
    with pytest.raises(ConfigError, match=problem):
        prompts(tmp_path, changed)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_files_of_findings_load(path):
    found = read_prompts(path)
    assert len(set(every_prompt(found))) == len(every_prompt(found))


def test_the_chest_file_asks_for_what_reports_are_labelled_with():
    ontology = Path(__file__).resolve().parents[3] / "medssl/reports/ontologies/chest_ct.yaml"
    names = {finding.name for finding in read_prompts(CONFIGS / "ct_chest.yaml").findings}
    labelled = [line for line in ontology.read_text().splitlines() if line.startswith("  ")]
    keys = {line.strip()[:-1] for line in labelled if line[2] != " " and line.endswith(":")}
    assert names == keys
