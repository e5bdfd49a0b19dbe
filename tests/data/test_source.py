"""Facts of a source."""

import numpy as np

from ddb_jax.data.source import ArraySource, conflicting


def test_a_bias_that_is_not_the_label_conflicts_and_none_is_unknown():
    labels, bias = np.array([0, 1, 1, 0]), np.array([0, 0, -1, 2])
    found = conflicting(ArraySource(np.zeros((4, 2, 2, 3), np.uint8), labels, bias))
    assert found.tolist() == [0, 1, -1, 1] and found.dtype == np.int32
