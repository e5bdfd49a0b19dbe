"""Selection rules on a hand-made validation result, and how ties fall."""

import numpy as np
import pytest

from ddb_jax.evaluation.selection import RULES, most_informed

# Class 0: 3 of 4 correct; class 1: 1 of 2. Groups 0, 1, 3: 2 of 2, 0 of 1, 1 of 2; one in none.
LABELS = np.array([0, 0, 0, 0, 1, 1])
CORRECT = np.array([1, 1, 0, 1, 1, 0], bool)
GROUPS = np.array([0, 0, 1, -1, 3, 3])


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("last", (0.0, 0.0)),
        ("average", (4 / 6, 0.625)),
        ("worst_class", (0.5, 0.625)),
        ("class_difference", (-0.25, 0.625)),
        ("worst_pseudo_group", (0.0, 0.5)),
        ("worst_true_group", (0.0, 0.5)),
        ("oracle_best_on_test", (4 / 6, 0.625)),
    ],
)
def test_scores_by_hand(rule, expected):
    score = RULES[rule].score(LABELS, CORRECT, GROUPS)
    assert score == pytest.approx(expected, abs=1e-6)
    assert len(score) == 2
    assert score == tuple(np.float32(score))  # survives a float32 checkpoint


def test_only_one_rule_uses_bias_labels():
    assert [name for name, rule in RULES.items() if rule.uses_bias_labels] == ["worst_true_group"]
    for rule in RULES.values():
        assert rule.uses_bias_labels == (rule.requires == "true_groups")
        if rule.requires == "nothing":
            assert rule.score(LABELS, CORRECT, None) == rule.score(LABELS, CORRECT, GROUPS)


def test_only_the_oracle_of_the_test_split_reads_it():
    assert [name for name, rule in RULES.items() if rule.reads_test] == ["oracle_best_on_test"]
    rule = RULES["oracle_best_on_test"]
    assert rule.requires == "test_split" and "TEST SPLIT (oracle)" in rule.title
    # Half of each class right: better than GROUPS's worst group, and it needs no groups.
    assert rule.score(np.array([0, 0, 1, 1]), np.array([1, 0, 1, 0], bool), None) == (0.5, 0.5)


def test_missing_groups_are_refused():
    with pytest.raises(ValueError, match="needs the groups"):
        RULES["worst_pseudo_group"].score(LABELS, CORRECT, None)
    with pytest.raises(ValueError, match="No validation example"):
        RULES["worst_pseudo_group"].score(LABELS, CORRECT, np.full(6, -1))


def test_the_mean_breaks_ties():
    # Groups 0 and 1: both steps have the worst accuracy 1/2, their means are 1/2 and 3/4.
    groups = np.array([0, 0, 1, 1])
    even, better = np.array([1, 0, 1, 0], bool), np.array([1, 0, 1, 1], bool)
    score = RULES["worst_pseudo_group"].score
    assert score(groups, even, groups) == (0.5, 0.5)
    assert score(groups, better, groups) == (0.5, 0.75)


def test_equal_results_in_another_order_tie():
    # Group accuracies 1/10, 2/10, 3/10 and their reverse differ by rounding in a plain sum.
    groups = np.repeat([0, 1, 2], 10)
    correct = np.concatenate([np.arange(10) < n for n in (1, 2, 3)])
    score = RULES["worst_true_group"].score
    assert score(groups, correct, groups) == score(groups, correct, 2 - groups)
    labels, tilted = np.repeat([0, 1], 10), RULES["class_difference"].score
    differences = {
        tilted(labels, np.concatenate([np.arange(10) < n for n in (low, low + 3)]), None)[0]
        for low in range(8)
    }
    assert differences == {float(np.float32(-0.3))}


def test_what_was_chosen_on_the_test_split_is_named_so_whatever_else_chose():
    assert most_informed(["worst_true_group", "oracle_best_on_test"]) == "oracle_best_on_test"
    assert most_informed(["average", "worst_true_group"]) == "worst_true_group"
    assert most_informed(["worst_pseudo_group", "average"]) == "worst_pseudo_group"
