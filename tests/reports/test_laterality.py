import pytest
from hypothesis import given
from hypothesis import strategies as st

from medssl.reports.laterality import mirrored_words

WORDS = st.sampled_from(["left", "Right", "LLL", "links", "rechten", "izquierda", "destro", "lung"])


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        ("Left-sided effusion, right lung clear.", "Right-sided effusion, left lung clear."),
        ("Nodule in the RUL; LLL collapse", "Nodule in the LUL; RLL collapse"),
        ("Erguss links, rechter Hauptbronchus frei.", "Erguss rechts, linker Hauptbronchus frei."),
        ("Poumon droit, base gauche.", "Poumon gauche, base droite."),
        ("Pulmón izquierdo. DERRAME DERECHO", "Pulmón derecho. DERRAME IZQUIERDO"),
        ("Polmone sinistro", "Polmone destro"),
        ("bright, upright and the cleft", "bright, upright and the cleft"),
    ],
)
def test_left_becomes_right(text, mirrored):
    assert mirrored_words(text) == mirrored


@given(st.lists(WORDS).map(" ".join))
def test_twice_is_the_text_again(text):
    assert mirrored_words(mirrored_words(text)) == text
