"""Ranks within a class, by score and by position."""

import numpy as np

from ddb_jax.stages.common.scores_table import rank_in_class

LABELS = np.array([3, 0, 3, 0, 3, 0])


def test_the_highest_score_of_a_class_is_first_and_ties_go_by_position():
    ranks = rank_in_class(LABELS, np.array([0.5, 1.0, 2.0, 7.0, 0.5, 7.0]))
    assert ranks.tolist() == [2, 3, 1, 1, 3, 2] and ranks.dtype == np.int32


def test_without_scores_the_order_is_that_of_positions():
    assert rank_in_class(LABELS).tolist() == [1, 1, 2, 2, 3, 3]
    assert rank_in_class(np.array([], np.int32)).tolist() == []
