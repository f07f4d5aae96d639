"""What may stand in an attribute: a value of its kind, and nothing that only looks like one."""

import pytest

from medssl.privacy import values


@pytest.mark.parametrize(
    "text", ["", "10", "1011", "101112", "101112.5", "10:11:12", "235960.123456"]
)
def test_a_time_of_day_stays(text):
    assert values.clock(f"{text} ") == text


@pytest.mark.parametrize("text", ["77120458", "251112", "10117", "101112.1234567", "MRN-7", "9"])
def test_what_is_no_time_of_day_does_not(text):
    assert values.clock(text) == ""


def test_a_date_moves_and_its_time_stays_where_it_is_one():
    assert values.moved_date("20090519101112.5+0100", -1) == "20090518101112.5+0100"
    assert values.moved_date("20090519", -1) == "20090518"
    assert values.moved_date("20090519771204", -1) == ""
    assert values.moved_date("20090519101112.5+7712", -1) == ""
