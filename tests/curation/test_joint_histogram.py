import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medssl.curation.joint_histogram import joint_histogram, joint_histogram_numpy


@given(
    st.integers(0, 40).flatmap(lambda n: hnp.arrays(np.uint8, (2, n), elements=st.integers(0, 7)))
)
def test_both_ways_count_every_pair(pair):
    a_P, b_P = pair
    slow = np.zeros((8, 8), int)
    for a, b in zip(a_P, b_P, strict=True):
        slow[a, b] += 1
    np.testing.assert_array_equal(joint_histogram(a_P, b_P, 8), slow)
    np.testing.assert_array_equal(joint_histogram_numpy(a_P, b_P, 8), slow)
