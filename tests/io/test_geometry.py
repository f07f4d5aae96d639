import numpy as np
import pytest

from medssl.io.geometry import contiguous


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("step", [1, -1])
def test_contiguous_copies_are_equal(order, step):
    array = np.arange(40 * 3 * 21, dtype=np.int16).reshape(40, 3, 21).transpose(order)
    view = array[::step, :, ::step]
    copied = contiguous(view)
    assert copied.flags.c_contiguous
    np.testing.assert_array_equal(copied, view)
