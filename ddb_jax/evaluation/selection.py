"""Rules that choose a training step by its results on held-out images.

The rule decides much of a published number. "worst_true_group" is told the bias labels of the
validation split, and "oracle_best_on_test" reads the split that is reported: its figures are an
upper bound. It exists because published figures were chosen that way.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

Score = tuple[float, float]


class Rule(NamedTuple):
    """One selection rule.

    Attributes:
        score: (labels int [N], correct bool [N], groups int [N] or None) -> score of the step,
            compared as a tuple: the rule's own figure, then the mean accuracy over the classes or
            groups it looks at. Higher is better. An example of group -1 belongs to none.
        requires: The `groups` it needs: "nothing", "pseudo_groups" or "true_groups"; or
            "test_split", no groups but the test split in place of validation.
        uses_bias_labels: The rule is told the bias of the validation images.
        title: What it maximises, for people.
        reads_test: It is given the labels and answers of the test split.
    """

    score: Callable[[np.ndarray, np.ndarray, np.ndarray | None], Score]
    requires: str
    uses_bias_labels: bool
    title: str
    reads_test: bool = False


def _accuracies(correct: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Accuracy of each group that has an example."""
    if groups is None:
        raise ValueError("This selection rule needs the groups of the validation examples.")
    accuracies = [correct[groups == group].mean() for group in np.unique(groups[groups >= 0])]
    if not accuracies:
        raise ValueError("No validation example belongs to a class or group to select by.")
    return np.array(accuracies)


def _score(figure: float, accuracies: np.ndarray) -> Score:
    # Rounded to float32, so that ties stay ties whatever the order of a sum, and after a score has
    # been saved in a float32 checkpoint.
    return float(np.float32(figure)), float(np.float32(accuracies.mean()))


def _last(labels: np.ndarray, correct: np.ndarray, groups: np.ndarray | None) -> Score:
    return 0.0, 0.0


def _average(labels: np.ndarray, correct: np.ndarray, groups: np.ndarray | None) -> Score:
    accuracies = _accuracies(correct, labels)
    return _score(correct.mean(), accuracies)


def _worst_class(labels: np.ndarray, correct: np.ndarray, groups: np.ndarray | None) -> Score:
    accuracies = _accuracies(correct, labels)
    return _score(accuracies.min(), accuracies)


def _class_difference(labels: np.ndarray, correct: np.ndarray, groups: np.ndarray | None) -> Score:
    accuracies = _accuracies(correct, labels)
    return _score(accuracies.min() - accuracies.max(), accuracies)


def _worst_group(labels: np.ndarray, correct: np.ndarray, groups: np.ndarray | None) -> Score:
    accuracies = _accuracies(correct, groups)
    return _score(accuracies.min(), accuracies)


def most_informed(rules: Sequence[str]) -> str:
    """Of several rules, the one that was told the most; the first of equals.

    Answers of the test split count as more than bias labels, and bias labels as more than nothing.
    """
    return max(rules, key=lambda name: (RULES[name].reads_test, RULES[name].uses_bias_labels))


RULES: dict[str, Rule] = {
    "last": Rule(_last, "nothing", False, "last step"),
    "average": Rule(_average, "nothing", False, "average accuracy"),
    "worst_class": Rule(_worst_class, "nothing", False, "accuracy of the worst class"),
    "class_difference": Rule(
        _class_difference, "nothing", False, "evenness of the classes, -(best - worst)"
    ),
    "worst_pseudo_group": Rule(
        _worst_group, "pseudo_groups", False, "accuracy of the worst pseudo-group"
    ),
    "worst_true_group": Rule(_worst_group, "true_groups", True, "accuracy of the worst true group"),
    "oracle_best_on_test": Rule(
        _average,
        "test_split",
        False,
        "average accuracy ON THE TEST SPLIT (oracle)",
        reads_test=True,
    ),
}
