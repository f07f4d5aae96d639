import pytest
from hypothesis import given
from hypothesis import strategies as st

from medssl.reports.redaction import redact, remaining


@pytest.mark.parametrize(
    ("text", "clean", "rule"),
    [
        ("CT of 03.05.2019.", "CT of [DATE].", "date"),
        ("on 2019-05-03 and", "on [DATE] and", "date"),
        ("May 5, 2019", "[DATE]", "date"),
        ("vom 3. März 2020", "vom [DATE]", "date"),
        ("le 5 février 2021", "le [DATE]", "date"),
        ("el 5 de mayo de 2021", "el [DATE]", "date"),
        ("at 14:30 today", "at [TIME] today", "time"),
        ("MRN: 12345678", "MRN: [NUMBER]", "number"),
        ("Accession No. AB-12345", "Accession No. [NUMBER]", "number"),
        ("see 20301122334", "see [NUMBER]", "long_number"),
        ("1.2.840.113619.2.55.3", "[NUMBER]", "long_number"),
        ("call +49 89 123456-78", "call [PHONE]", "phone"),
        ("Tel. 089 / 4711", "Tel. [PHONE]", "phone"),
        ("ask a.b@clinic.org", "ask [EMAIL]", "email"),
        ("www.clinic.org/x", "[URL]", "url"),
        ("by Dr. Anna van der Berg.", "by Dr. [NAME].", "title_name"),
        ("Herr Müller klagt", "Herr [NAME] klagt", "title_name"),
        ("Mme Dupont se plaint", "Mme [NAME] se plaint", "title_name"),
        ("Dictated by: Jane Doe", "Dictated by: [NAME]", "signed_by"),
        ("Befundet durch Max Muster", "Befundet durch [NAME]", "signed_by"),
        ("Name: doe, jane", "Name: [NAME]", "named_line"),
        ("Normal.\nBest regards\nJane", "Normal.\n[SIGNATURE]", "signature"),
        ("a 93-year-old", "a [AGE]-year-old", "age_over_89"),
        ("91 ans", "[AGE] ans", "age_over_89"),
        ("12 Elm Street", "[ADDRESS]", "address"),
        ("Hauptstraße 5", "[ADDRESS]", "address"),
    ],
)
def test_identifiers_become_placeholders(text, clean, rule):
    found = redact(text)
    assert found.text == clean
    assert found.removed == {rule: 1}
    assert not remaining(found.text)


@pytest.mark.parametrize(
    "text",
    [
        "Nodule of 3.5 x 4.2 x 10 mm in segment 6/7, SUV 12.5, -1000 HU.",
        "T12 fracture, L4-5 disc, C5/6. May be old. March fracture.",
        "An 89-year-old with MR angiography and 1.5 T MRI, series 5, image 123.",
        "Covid-19 pneumonia, RADS 4A. Follow-up in 6 months, 2019 was normal.",
        "12 x 30 mm, 50-60 % stenosis, measuring 6. May be old.",
    ],
)
def test_measurements_and_levels_stay(text):
    assert redact(text).text == text
    assert not remaining(text)


def test_every_telling_word_of_a_header_goes_and_words_of_every_day_stay():
    text = "Smith said no. SMITH-JONES has young lungs. Young Kim, José's Jose. Not at Wexham."
    found = redact(text, ["Smith-Jones^Bo", "Young Kim", "José", "Wexham Hospital"])
    assert "mith" not in found.text
    assert "Kim" not in found.text
    assert "Jos" not in found.text
    assert "Wexham" not in found.text
    assert "has young lungs" in found.text
    assert found.removed["known_value"] == 6


def test_a_name_that_is_a_word_of_negation_does_not_turn_a_report_round():
    found = redact("No effusion. Seen by No, Li.", ["Li No"])
    assert found.text == "No effusion. Seen by [KNOWN]."


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("told to J. Krautwurst", "initial_and_name"),
        ("Dr. meyer", "titled_word"),
        ("born on 5", "birth"),
        ("AB12345X", "letters_and_digits"),
        ("12 34 56 78", "digits"),
        ("a @b c@d", "at_sign"),
    ],
)
def test_what_still_looks_like_an_identifier_is_counted(text, pattern):
    assert remaining(text)[pattern] == 1


NAMES = st.text(alphabet="abcdefghijklmnopqrstuvwxyzäéß", min_size=4, max_size=9).map(str.title)


@given(st.lists(NAMES, min_size=1, max_size=3), st.sampled_from(["{} is seen.", "x ({}), y", "{}"]))
def test_no_known_name_survives_as_a_word(names, around):
    from medssl.privacy.common_words import says_something
    from medssl.reports.plain import plain

    text = around.format("; ".join(names))
    left = plain(redact(text, ["^".join(names)]).text).replace("[known]", "")
    telling = [plain(name) for name in names if says_something(plain(name))]
    words = "".join(letter if letter.isalnum() else " " for letter in left).split()
    assert not set(telling) & set(words)


@given(st.text(max_size=200))
def test_any_text_can_be_cleaned_twice(text):
    once = redact(text).text
    assert redact(once).text == once
