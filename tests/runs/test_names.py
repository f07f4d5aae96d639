import posixpath
import re

from hypothesis import given
from hypothesis import strategies as st

from medssl.runs.names import LONGEST_NAME, accepted_name, accepted_names, accepted_value

ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=400)


def as_mlflow_checks(name):
    """Return whether MLflow takes a name: its rules, of mlflow.utils.validation, by hand."""
    unique = posixpath.normpath(name) == name and name != "." and not name.startswith(("..", "/"))
    return bool(re.match(r"^[/\w.\- :]+$", name)) and unique and len(name) <= 250


@given(ANY_TEXT)
def test_every_name_becomes_one_that_mlflow_takes(key):
    assert as_mlflow_checks(accepted_name(key))


def test_mlflow_itself_takes_the_awkward_ones():
    from mlflow.utils.validation import _validate_metric, _validate_param, _validate_tag

    for key in ("", "/", "..", "a//b", "a/../b", "./a", "a/", "x" * 999, "§", "a\nb", "dice@val"):
        name = accepted_name(key)
        _validate_metric(name, 1.0, 0, 0)
        _validate_param(name, "x")
        _validate_tag(name, "x")


@given(st.text("ab/._-: ", min_size=1, max_size=20))
def test_a_name_that_is_taken_already_stays_as_it_is(key):
    if as_mlflow_checks(key) and not {p.strip() for p in key.split("/")} & {"", ".", ".."}:
        assert accepted_name(key) == key


@given(st.lists(st.one_of(st.text("a§%/.", max_size=4), st.just("x" * 300)), unique=True))
def test_different_names_stay_different(keys):
    named = accepted_names(keys)
    assert list(named) == keys
    assert len(set(named.values())) == len(keys)


def test_long_names_that_begin_alike_stay_different():
    one, other = accepted_name("x" * 300 + "1"), accepted_name("x" * 300 + "2")
    assert one != other
    assert len(one) == len(other) == LONGEST_NAME


@given(ANY_TEXT, st.integers(60, 600))
def test_every_value_fits_and_can_be_written_to_a_database(value, longest):
    text = accepted_value(value, longest)
    assert len(text) <= longest
    assert "\0" not in text
    text.encode()  # no half of a surrogate pair, as names of files may have


def test_a_value_that_is_cut_still_differs_from_another():
    one, other = (accepted_value("x" * 900 + end, 500) for end in "12")
    assert one != other
    assert one.startswith("x" * 400)
    assert "(901 characters" in one
