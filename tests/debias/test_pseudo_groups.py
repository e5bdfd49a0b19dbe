"""Pseudo-group rules on hand-made tables."""

import numpy as np
import pytest

from ddb_jax.debias import pseudo_groups

LABELS = np.array([0, 0, 0, 1, 1, 1])
PREDICTED = np.array([0, 0, 1, 1, 0, 0])
# Correct: 0.1, 0.3, 0.2, of mean 0.2 and population variance 0.02/3. Wrong: 0.9, 0.25, 2.
LOSSES = np.array([0.1, 0.3, 0.9, 0.2, 0.25, 2.0])
STD = np.sqrt(0.02 / 3)


def test_error_set_is_the_misclassified():
    flagged = pseudo_groups.error_set(LABELS, PREDICTED)
    np.testing.assert_array_equal(flagged, [False, False, True, False, True, True])


@pytest.mark.parametrize(
    ("gamma", "expected"),
    [
        (0.0, [2, 4, 5]),  # 0.2
        (3.0, [2, 5]),  # 0.445: the misclassified 0.25 is dropped
        (10.0, [5]),  # 1.016
    ],
)
def test_loss_threshold_by_hand(gamma, expected):
    flagged, threshold = pseudo_groups.loss_threshold(LABELS, PREDICTED, LOSSES, gamma)
    np.testing.assert_allclose(threshold, 0.2 + gamma * STD)
    np.testing.assert_array_equal(np.flatnonzero(flagged), expected)


def test_a_correct_image_of_high_loss_is_not_flagged():
    losses = np.array([9.0, 0.1, 0.9, 0.1, 9.0, 9.9])
    flagged, threshold = pseudo_groups.loss_threshold(LABELS, PREDICTED, losses, 0.0)
    np.testing.assert_allclose(threshold, 9.2 / 3)
    np.testing.assert_array_equal(np.flatnonzero(flagged), [4, 5])


def test_all_correct_flags_none_and_none_correct_falls_back_to_the_error_set():
    flagged, threshold = pseudo_groups.loss_threshold(LABELS, LABELS, LOSSES, -5.0)
    assert not flagged.any() and np.isfinite(threshold)
    flagged, threshold = pseudo_groups.loss_threshold(LABELS, 1 - LABELS, LOSSES, 3.0)
    assert flagged.all() and threshold == -np.inf


def test_rules_by_name():
    rule = pseudo_groups.conflicting_by_rule
    flagged, threshold = rule("error_set", LABELS, PREDICTED, LOSSES, 3.0)
    assert (list(np.flatnonzero(flagged)), threshold) == ([2, 4, 5], -np.inf)
    flagged, _ = rule("loss_threshold", LABELS, PREDICTED, LOSSES, 3.0)
    assert list(np.flatnonzero(flagged)) == [2, 5]
    with pytest.raises(ValueError, match="error_set, loss_threshold"):
        rule("errors", LABELS, PREDICTED, LOSSES, 3.0)


def test_a_loss_that_is_not_finite_is_refused():
    losses = np.where(np.arange(6) == 3, np.nan, LOSSES)
    with pytest.raises(ValueError, match="example 3 is nan"):
        pseudo_groups.loss_threshold(LABELS, PREDICTED, losses, 3.0)


def test_groups_are_numbered_over_the_non_empty_cells():
    labels = np.array([2, 0, 0, 2, 1, 0])
    conflicting = np.array([False, True, False, False, False, False])
    groups = pseudo_groups.assign_groups(labels, conflicting, 4, ["ant", "bee", "cat", "dog"])
    assert groups.names == ("ant/aligned", "ant/conflicting", "bee/aligned", "cat/aligned")
    assert groups.dropped == (
        "bee/conflicting",
        "cat/conflicting",
        "dog/aligned",
        "dog/conflicting",
    )
    np.testing.assert_array_equal(groups.ids, [3, 1, 0, 3, 2, 0])
    np.testing.assert_array_equal(groups.sizes, [2, 1, 1, 2])
    assert groups.ids.dtype == np.int32


def test_bias_groups_are_cells_of_label_and_bias():
    labels, bias = np.array([0, 1, 1, 0]), np.array([2, 0, 2, 2])
    groups = pseudo_groups.assign_bias_groups(labels, bias, 2, 3)
    assert groups.names == ("0/2", "1/0", "1/2")
    assert groups.dropped == ("0/0", "0/1", "1/1")
    np.testing.assert_array_equal(groups.ids, [0, 1, 2, 0])
    np.testing.assert_array_equal(groups.sizes, [2, 1, 1])


def test_labels_and_biases_out_of_range_are_refused():
    with pytest.raises(ValueError, match="label of example 1 is 2"):
        pseudo_groups.assign_groups(np.array([0, 2]), np.array([True, False]), 2)
    with pytest.raises(ValueError, match="bias of example 0 is -1"):
        pseudo_groups.assign_bias_groups(np.array([0, 1]), np.array([-1, 0]), 2, 2)
