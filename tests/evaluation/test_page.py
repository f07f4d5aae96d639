import pytest

from medssl.evaluation.page import NOT_MEASURED, number, p_value, signed

NAN = float("nan")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.12345, "0.123"),
        (-0.5, "\N{MINUS SIGN}0.500"),
        (12.3456, "12.35"),
        (1234.5, "1234"),
        (None, NOT_MEASURED),
        (NAN, NOT_MEASURED),
        (float("inf"), "infinite"),
    ],
)
def test_a_number_has_as_many_digits_as_are_worth_reading(value, said):
    assert number(value) == said


def test_a_difference_has_its_sign():
    assert signed(0.5) == "+0.500"
    assert signed(0.0) == "0.000"
    assert signed(NAN) == NOT_MEASURED


def test_the_corrected_p_value_is_told_where_there_is_one():
    assert p_value({"p_value": 0.01, "p_holm": 0.04}) == "0.040"
    assert p_value({"p_value": 0.01}) == "0.010"
    assert p_value({"p_value": 0.0001}) == "< 0.001"
    assert p_value({"p_value": NAN}) == NOT_MEASURED
