import pytest
from hypothesis import given
from hypothesis import strategies as st

from medssl.reports.sentences import sentence_spans, split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("A nodule of 3.5 mm. No mass.", ["A nodule of 3.5 mm.", "No mass."]),
        ("Seen by Dr. Smith. Stable.", ["Seen by Dr. Smith.", "Stable."]),
        ("Read by Dr. J. K. Smith. Stable.", ["Read by Dr. J. K. Smith.", "Stable."]),
        ("1. Nodule. 2. Effusion.", ["1. Nodule.", "2. Effusion."]),
        ("1. Nodule\n2. Effusion", ["1. Nodule", "2. Effusion"]),
        ("The largest is 2. Next.", ["The largest is 2.", "Next."]),
        ("Lesion of 3 x 4.5 x 6 cm, approx. 2 mm deep.",) * 2,
        ("- one\n- two\n• three • four", ["- one", "- two", "• three", "• four"]),
        ("A line that is only\nwrapped here. End", ["A line that is only wrapped here.", "End"]),
        ("No mass\nNo effusion on the left or on the right side", 2),
        ("Pneumonia? Effusion; none!", ["Pneumonia?", "Effusion;", "none!"]),
        ("Kein Erguss, z.B. links. Herz normal", 2),
        ("First part.\n\nsecond part", ["First part.", "second part"]),
        ("", []),
        (" \n ", []),
    ],
)
def test_sentences_are_what_a_reader_takes_for_them(text, sentences):
    found = split_sentences(text)
    if isinstance(sentences, int):
        assert len(found) == sentences
    else:
        assert found == ([sentences] if isinstance(sentences, str) else sentences)


@given(st.text(alphabet='aB1.;?\n -•"', max_size=80))
def test_nothing_is_lost_but_spaces(text):
    spans = sentence_spans(text)
    assert "".join("".join(text[a:b].split()) for a, b in spans) == "".join(text.split())
    assert spans == sorted(spans)
    assert all(a < b and text[a:b] == text[a:b].strip() for a, b in spans)
