import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medssl.reports.phrases import compiled, stems_of

WORDS = st.sampled_from(["heart", "size", "effusion*", "a|bc", "wide?", "lung|lungs"])


@pytest.mark.parametrize(
    ("phrase", "text", "found"),
    [
        ("pleural effusion*", "Pleural-effusions are", "Pleural-effusions"),
        ("lung|lungs are clear", "the lungs are clear", "lungs are clear"),
        (
            "heart size ~ normal",
            "heart size, as before, is normal",
            "heart size, as before, is normal",
        ),
        ("heart ~ large", "heart. Large", None),
        ("not? observed", "observed", "observed"),
        ("size is? normal", "size normal", "size normal"),
        ("mass", "massive", None),
        ("a+b", "aab", None),
    ],
)
def test_a_phrase_finds_what_it_says(phrase, text, found):
    match = compiled([phrase]).search(text)
    assert (match and match.group()) == found


def test_the_longer_phrase_wins():
    assert compiled(["no", "no evidence of"]).search("no evidence of").group() == "no evidence of"


@pytest.mark.parametrize("phrase", ["", "~ a", "a ~", "a? b?"])
def test_what_is_no_phrase_is_refused(phrase):
    with pytest.raises(ValueError, match="is no phrase"):
        compiled([phrase])


def test_a_word_that_yaml_takes_for_no_is_explained():
    with pytest.raises(ValueError, match="need quotes"):
        compiled([False])


@given(
    st.lists(WORDS, min_size=1, max_size=4).map(" ".join),
    st.text("heartsizbcfuonlgw ", max_size=60),
)
def test_every_match_holds_a_stem(phrase, text):
    try:
        pattern = compiled([phrase])
    except ValueError:
        return
    for match in re.finditer(pattern, text):
        assert any(stem in match.group().lower() for stem in stems_of(phrase))
