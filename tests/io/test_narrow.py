import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medssl.io.narrow import VOLUME_DTYPES, narrow, narrow_integers


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=20))
def test_integers_are_never_changed(numbers):
    small = narrow(np.array(numbers, np.int64))
    assert small.dtype in VOLUME_DTYPES
    assert small.tolist() == numbers


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-32768, 32767, np.int16),
        (0, 32768, np.uint16),
        (-1, 32768, np.int32),
        (0, 65536, np.int32),
        (0, 2**40, np.float32),
    ],
)
def test_the_smallest_type_that_holds_them(low, high, expected):
    assert narrow_integers(np.array([low, high])).dtype == expected


@pytest.mark.parametrize("dtype", VOLUME_DTYPES, ids=str)
@pytest.mark.parametrize("order", "<>")
def test_types_of_a_volume_are_kept_in_native_order(dtype, order):
    found = narrow(np.array([1, 2, 3], dtype.newbyteorder(order)))
    assert found.dtype == dtype
    assert found.tolist() == [1, 2, 3]


def test_other_real_types_become_one_of_them():
    assert narrow(np.array([-5, 5], np.int8)).dtype == np.int16
    assert narrow(np.array([0.5])).dtype == np.float32
    assert np.isinf(narrow(np.array([1e300]))).all()


def test_what_is_not_a_number_is_refused():
    with pytest.raises(ValueError, match="not real numbers"):
        narrow(np.array([1j]))
