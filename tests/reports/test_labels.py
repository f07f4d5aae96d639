from pathlib import Path

import pytest

from medssl.errors import InputError
from medssl.reports.labels import Labeller
from medssl.reports.ontology import Ontology, read_ontology, shipped
from medssl.reports.pairs import Section
from pipelines.benchmarks.report_labels import measure, read_labelled

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "reports-ct" / "reports.csv"
LABELLERS = {name: Labeller(read_ontology(name)) for name in shipped()}


def read(text, ontology="chest_ct", section="findings"):
    return LABELLERS[ontology].read([Section(name=section, text=text)])


CHEST = {
    "Small pleural effusion.": ({"pleural_effusion": 1}, False),
    "No effusion. Possible emphysema.": ({"pleural_effusion": 0, "emphysema": -1}, False),
    "Heart size is normal.": ({"cardiomegaly": 0}, True),
    "Heart size is not normal.": ({}, None),
    "Pericardial effusion. No emphysema.": ({"pericardial_effusion": 1, "emphysema": 0}, False),
    "History of emphysema.": ({}, None),
    "Nodule in the thyroid.": ({}, None),
    "No effusion. Rib fracture.": ({"pleural_effusion": 0}, False),
    "Normal chest CT.": ({}, True),
    "The examination is of good quality.": ({}, None),
}
OTHERS = {
    ("chexpert", "No acute cardiopulmonary abnormality."): ({}, True),
    ("chexpert", "Pneumothorax, no effusion."): ({"pneumothorax": 1, "pleural_effusion": 0}, False),
    ("abdomen", "Cholelithiasis. No ascites."): ({"gallstones": 1, "ascites": 0}, False),
    ("brain", "No acute infarct. Mild atrophy."): ({"infarct": 0, "atrophy": 1}, False),
}
EXAMPLES = {("chest_ct", text): expected for text, expected in CHEST.items()} | OTHERS


@pytest.mark.parametrize(("ontology", "text"), EXAMPLES)
def test_labels_of_a_text(ontology, text):
    found = read(text, ontology)
    assert (found.labels, found.normal) == EXAMPLES[ontology, text]


def test_evidence_points_at_the_words_that_say_it():
    text = "Lungs are clear. Small left pleural effusion is seen.\nNo emphysema."
    found = read(text).evidence
    assert {text[each.start : each.end] for each in found} == {"pleural effusion", "emphysema"}
    assert {(each.finding, each.meaning, each.section) for each in found} == {
        ("pleural_effusion", "present", "findings"),
        ("emphysema", "absent", "findings"),
    }


def test_the_stronger_mention_counts():
    assert read("No effusion at first. Later an effusion.").labels == {"pleural_effusion": 1}
    assert read("Possible emphysema. No emphysema on the left.").labels == {"emphysema": -1}


@pytest.mark.parametrize("section", ["indication", "history", "technique", "comparison"])
def test_why_and_how_a_scan_was_taken_labels_nothing(section):
    assert read("Pleural effusion.", section=section).labels == {}


def test_an_ontology_of_ones_own(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("title: Own\nfindings:\n  gout: {title: Gout, present: [tophus|tophi]}\n")
    assert Labeller(read_ontology(str(path))).read(
        [Section(name="body", text="Tophi.")]
    ).labels == {"gout": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("title: a\nfindings: {}", "findings"),
        ("title: a\nfindings: {Bad Name: {title: a, present: [a]}}", "Bad Name"),
        ("title: a\nfindings: {b: {title: a, present: ['~']}}", "is no phrase"),
        ("title: a\nfindings: {b: {title: a, presents: [a]}}", "presents"),
        ("a: [", "cannot be read"),
    ],
)
def test_a_wrong_ontology_is_explained(tmp_path, content, message):
    path = tmp_path / "own.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_ontology(str(path))


def test_shipped_ontologies_have_the_findings_they_promise():
    counts = {name: len(read_ontology(name).names) for name in shipped()}
    assert counts == {"abdomen": 28, "brain": 19, "chest_ct": 18, "chexpert": 13}
    assert all(isinstance(labeller.ontology, Ontology) for labeller in LABELLERS.values())


@pytest.mark.slow
def test_real_reports_are_labelled_as_radiologists_labelled_them():
    if not SHARED.is_file():
        pytest.skip(f"{SHARED} is not there")
    result = measure(*read_labelled(SHARED))
    assert len(result.f1) == 18
    assert result.macro_f1 >= 0.88
    assert result.ms_per_report <= 10
