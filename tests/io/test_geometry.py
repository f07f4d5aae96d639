import numpy as np
import pytest

from medssl.io.geometry import in_memory


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("step", [1, -1])
def test_an_array_as_it_lies_in_memory_is_turned_back(order, step):
    array = np.arange(40 * 3 * 21, dtype=np.int16).reshape(40, 3, 21)
    view = array.transpose(order)[::step, :, ::step]
    lying, turned_back = in_memory(view)
    np.testing.assert_array_equal(lying, array)
    assert lying.flags.c_contiguous
    np.testing.assert_array_equal(turned_back(lying), view)
