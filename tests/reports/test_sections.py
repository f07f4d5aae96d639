import pytest

from medssl.errors import InputError
from medssl.reports.sections import Headers

HEADERS = Headers.read()


def named(text, headers=HEADERS):
    return [(each.name, text[each.start : each.end]) for each in headers.sections(text)]


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        (
            "INDICATION: cough\nFINDINGS:\nNo mass.\nIMPRESSION\n1. Normal.",
            [("indication", "cough"), ("findings", "No mass."), ("impression", "1. Normal.")],
        ),
        (
            "Klinische Fragestellung: Tumor?\nBefund: Kein Erguss.\nBeurteilung: o.B.",
            [("indication", "Tumor?"), ("findings", "Kein Erguss."), ("impression", "o.B.")],
        ),
        (
            "Résultats :\nPas d'épanchement.\nCONCLUSION: normal",
            [("findings", "Pas d'épanchement."), ("impression", "normal")],
        ),
        ("HALLAZGOS: a\nImpresión: b", [("findings", "a"), ("impression", "b")]),
        ("Quesito clinico: a\nReperti: b\nConclusioni: c", 3),
        ("Vraagstelling: a\nBevindingen: b\nConclusie: c", 3),
        ("**Findings:** a\n## Impression\nb", [("findings", "a"), ("impression", "b")]),
        ("Before.\nFindings: a", [("body", "Before."), ("findings", "a")]),
        ("Findings in the lung are old.", [("body", "Findings in the lung are old.")]),
        ("One.\n\nTwo.\n\nThree.", [("findings", "One.\n\nTwo."), ("impression", "Three.")]),
        ("Comparison: CT of May. No mass.", [("comparison", "CT of May."), ("body", "No mass.")]),
        ("Findings:\nImpression: b", [("impression", "b")]),
        ("", []),
    ],
)
def test_sections_in_six_languages_and_without_headers(text, sections):
    found = named(text)
    assert len(found) == sections if isinstance(sections, int) else found == sections


def test_places_are_those_of_the_text_whatever_its_letters():
    text = "İNDICATION x\nRÉSULTATS: œdème\n"
    assert named(text)[-1] == ("findings", "œdème")


def test_a_user_brings_other_headers(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("findings:\n  pl: [opis]\nimpression:\n  pl: [wnioski]\n")
    assert named("OPIS: a\nWnioski: b", Headers.read(path)) == [
        ("findings", "a"),
        ("impression", "b"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("findings: {en: [a]}\nimpression: {en: [A]}", "stands for two sections"),
        ("findings: [a]", "does not hold headers"),
        ("Find ings: {en: [a]}", "no name of a section"),
        ("a: [", "cannot be read as YAML"),
        ("- a", "holds no mapping"),
    ],
)
def test_wrong_headers_are_explained(tmp_path, content, message):
    path = tmp_path / "own.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        Headers.read(path)


def test_headers_in_capitals_are_found_where_an_export_lost_the_ends_of_lines():
    text = "TECHNIQUE: CT. FINDINGS: No mass; the findings: none are new. IMPRESSION: Normal."
    found = Headers.read().sections(text)
    assert [(each.name, text[each.start : each.end]) for each in found] == [
        ("technique", "CT."),
        ("findings", "No mass; the findings: none are new."),
        ("impression", "Normal."),
    ]
