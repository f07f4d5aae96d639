import numpy as np
import pytest

from medssl.errors import InputError
from medssl.evaluation.frozen.targets import known_rows, read_targets

ROWS = [
    {"kind": "b", "cyst": "1", "stone": "0"},
    {"kind": "a", "cyst": "", "stone": "1"},
    {"kind": "b", "cyst": "0", "stone": ""},
]


def test_one_column_holds_classes_in_the_order_of_their_names():
    targets = read_targets(ROWS, ["kind"])
    assert targets.names == ("a", "b")
    assert targets.exclusive
    assert targets.labels().tolist() == [1, 0, 1]
    assert targets.y_NC.tolist() == [[0, 1], [1, 0], [0, 1]]


def test_several_columns_are_answered_one_by_one():
    targets = read_targets(ROWS, ["cyst", "stone"])
    np.testing.assert_array_equal(targets.y_NC, [[1, 0], [np.nan, 1], [0, np.nan]])
    with pytest.raises(ValueError, match="no one class"):
        targets.labels()


def test_rows_of_which_nothing_is_known_are_left_out():
    rows = [*ROWS, {"kind": "", "cyst": "", "stone": ""}]
    assert known_rows(rows, ["kind"]).tolist() == [0, 1, 2]
    assert known_rows(rows, ["cyst"]).tolist() == [0, 2]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (["tumour"], "no row has the column 'tumour'; there are: cyst, kind, stone"),
        (["kind", "cyst"], r"the column 'kind' holds 2 value\(s\) other than 0 and 1"),
    ],
)
def test_columns_that_cannot_be_asked_are_explained(columns, said):
    with pytest.raises(InputError, match=said):
        read_targets(ROWS, columns)


def test_columns_that_never_vary_are_refused():
    with pytest.raises(InputError, match=r"holds 1 class\(es\)"):
        read_targets(ROWS[:1], ["kind"])
    with pytest.raises(InputError, match="'cyst' says the same of all rows"):
        read_targets([ROWS[0], ROWS[1]], ["cyst", "stone"])
