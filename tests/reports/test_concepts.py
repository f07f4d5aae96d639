import pytest
from hypothesis import given
from hypothesis import strategies as st

from medssl.errors import InputError
from medssl.reports.concepts import ConceptMatcher, own_concepts, read_concepts
from medssl.reports.ontology import read_ontology, shipped

TERMS = [("c1", "effusion"), ("c2", "pleural effusion"), ("c3", "Œdème"), ("c1", "hydrothorax")]


def by_hand(terms, text):
    """The same by looking at every place, the longest term first."""
    found, place = [], 0
    while place < len(text):
        fitting = [
            (len(term), concept)
            for concept, term in terms
            if text[place:].startswith(term)
            and not text[place - 1 : place].isalnum() * (place > 0)
            and not text[place + len(term) : place + len(term) + 1].isalnum()
        ]
        if fitting:
            length, concept = max(fitting)
            found.append((concept, place, place + length))
            place += length
        else:
            place += 1
    return found


def test_the_longest_term_counts_with_its_place():
    text = "Pleural effusion, EFFUSIONS, œdeme and hydrothorax."
    found = ConceptMatcher(TERMS).find(text)
    assert [(each.concept, text[each.start : each.end]) for each in found] == [
        ("c2", "Pleural effusion"),
        ("c3", "œdeme"),
        ("c1", "hydrothorax"),
    ]


@given(st.text("aab bc-", max_size=30))
def test_it_finds_what_a_look_at_every_place_finds(text):
    terms = [("x", "aab"), ("y", "aab bc"), ("z", "bcb"), ("w", "bbb")]
    assert [tuple(each) for each in ConceptMatcher(terms).find(text)] == by_hand(terms, text)


def test_a_list_of_ones_own(tmp_path):
    path = tmp_path / "concepts.csv"
    path.write_text("id,term\nC0032227,pleural effusion\n", encoding="utf-8-sig")
    assert read_concepts(path).find("a pleural effusion")[0].concept == "C0032227"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n", "needs the columns id and term"),
        ("id,term\n1,mass\n2,Mass\n", "two concepts"),
        ("id,term\n", "there is no term"),
    ],
)
def test_a_wrong_list_is_explained(tmp_path, content, message):
    path = tmp_path / "concepts.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_concepts(path)


def test_the_ontologies_make_a_list():
    matcher = own_concepts(map(read_ontology, shipped()))
    found = matcher.find("Splenomegaly, peribronchial thickening and hydrocephalus.")
    names = ["splenomegaly", "peribronchial_thickening", "hydrocephalus"]
    assert [each.concept for each in found] == names
    assert len(matcher) > 60
