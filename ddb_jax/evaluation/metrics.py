"""Accuracies of a classifier: over all images, by class, by group of class and bias."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def wilson_interval(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson, JASA 1927).

    Args:
        successes: In 0..n.
        n: Number of trials, at least 1.
        z: Normal quantile; 1.96 gives 95 per cent.

    Returns:
        Lower and upper end, within [0, 1].

    Raises:
        ValueError: n is below 1, or successes lies outside 0..n.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is no proportion.")
    share = successes / n
    scale = 1 + z**2 / n
    centre = (share + z**2 / (2 * n)) / scale
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / scale
    return float(max(centre - half, 0.0)), float(min(centre + half, 1.0))


def evaluate_predictions(
    labels: np.ndarray,
    predicted: np.ndarray,
    bias: np.ndarray,
    *,
    num_classes: int,
    group_by: str = "conflicting",
    class_names: Sequence[str] | None = None,
    bias_names: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Every accuracy of one set of predictions.

    An image is bias-aligned when its bias equals its label. Groups are class x {aligned,
    conflicting}, or class x bias; empty ones are left out. The worst group is the one of lowest
    accuracy, whatever its size.

    Args:
        labels: int [N] in 0..num_classes-1.
        predicted: int [N].
        bias: int [N]; -1 is unknown.
        num_classes: Number of classes.
        group_by: "conflicting" or "bias".
        class_names: For the groups' names; numbers when None.
        bias_names: Likewise.

    Returns:
        average_accuracy, worst_class_accuracy; unbiased_accuracy (mean over the groups),
        worst_group_accuracy, aligned_accuracy, conflicting_accuracy; and "groups", a list of
        {name, count, accuracy}. Images of unknown bias count in the first two figures only. An
        accuracy over no images is None.

    Raises:
        ValueError: There are no images, the lengths differ, a label or bias is out of range, or
            group_by is unknown.
    """
    labels, predicted, bias = np.asarray(labels), np.asarray(predicted), np.asarray(bias)
    if group_by not in ("conflicting", "bias"):
        raise ValueError(f"group_by is {group_by!r}; it must be 'conflicting' or 'bias'.")
    if not len(labels) == len(predicted) == len(bias) or len(labels) == 0:
        raise ValueError(
            f"There are {len(labels)} labels, {len(predicted)} predictions and {len(bias)} biases;"
            " the three must be equal and not 0."
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"A label lies outside 0..{num_classes - 1}.")
    correct = predicted == labels
    class_accuracies = [correct[labels == label].mean() for label in np.unique(labels)]
    result = {
        "average_accuracy": float(correct.mean()),
        "worst_class_accuracy": float(min(class_accuracies)),
        "unbiased_accuracy": None,
        "worst_group_accuracy": None,
        "aligned_accuracy": None,
        "conflicting_accuracy": None,
        "groups": [],
    }
    known = bias >= 0
    if not known.any():
        return result

    labels, correct, bias = labels[known], correct[known], bias[known]
    aligned = bias == labels
    class_names = class_names or [str(label) for label in range(num_classes)]
    if group_by == "conflicting":
        values, value_names = (~aligned).astype(int), ["aligned", "conflicting"]
    else:
        values = bias
        value_names = bias_names or [str(value) for value in range(bias.max() + 1)]
        if bias.max() >= len(value_names):
            raise ValueError(f"A bias lies outside 0..{len(value_names) - 1}.")
    groups = []
    for label, class_name in enumerate(class_names):
        for value, value_name in enumerate(value_names):
            member = (labels == label) & (values == value)
            if member.any():
                name = f"{class_name}/{value_name}"
                accuracy = float(correct[member].mean())
                groups.append({"name": name, "count": int(member.sum()), "accuracy": accuracy})
    accuracies = [group["accuracy"] for group in groups]
    return result | {
        "unbiased_accuracy": float(np.mean(accuracies)),
        "worst_group_accuracy": min(accuracies),
        "aligned_accuracy": _mean_or_none(correct[aligned]),
        "conflicting_accuracy": _mean_or_none(correct[~aligned]),
        "groups": groups,
    }


def _mean_or_none(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None
