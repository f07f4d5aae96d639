from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from medssl.library.small_integers import are_small, histogram, look_up, table_of

SMALL = [np.dtype(t) for t in ("uint8", "int8", "int16", "uint16")]
volumes = st.sampled_from(SMALL).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=3, max_dims=3, max_side=5))
)


@given(volumes)
def test_histogram_equals_its_slow_twin(array):
    counted = Counter(array.ravel().tolist())
    found = histogram(array)
    assert found.values.tolist() == sorted(counted)
    assert found.counts.tolist() == [counted[value] for value in sorted(counted)]


@given(volumes, st.lists(st.floats(0, 100), min_size=1, max_size=3))
def test_its_statistics_are_numpys(array, percents):
    found = histogram(array)
    wanted = np.percentile(array, percents, method="inverted_cdf")
    np.testing.assert_array_equal(found.percentiles(percents), wanted)
    np.testing.assert_allclose(found.mean, array.mean(dtype=np.float64), rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(found.std, array.std(dtype=np.float64), rtol=1e-9, atol=1e-9)


@given(volumes)
def test_looking_up_equals_computing(array):
    def square(values):
        return values**2 - 3

    found = look_up(table_of(array.dtype, square), array[::-1, :, ::-1])
    np.testing.assert_array_equal(found, square(array[::-1, :, ::-1].astype(np.float64)))


@pytest.mark.parametrize("dtype", ["int32", "float32", "float16", "uint64"])
def test_other_types_are_not_small(dtype):
    assert not are_small(np.dtype(dtype))
