"""Accuracies of a classifier: over all images, by class, by group of class and bias."""

import itertools
from collections.abc import Mapping, Sequence
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
        {name, count, accuracy}. Images of unknown bias count only in the first two figures. An
        accuracy over no images is None.

    Raises:
        ValueError: There are no images, the lengths differ, a label or bias is out of range, or
            group_by is unknown.
    """
    labels, predicted, bias = np.asarray(labels), np.asarray(predicted), np.asarray(bias)
    if group_by not in ("conflicting", "bias"):
        raise ValueError(f"group_by is {group_by!r}; it must be 'conflicting' or 'bias'.")
    _check_predictions(labels, predicted, bias, num_classes)
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
    groups = _group_accuracies(labels, values, correct, class_names, value_names)
    accuracies = [group["accuracy"] for group in groups]
    return result | {
        "unbiased_accuracy": float(np.mean(accuracies)),
        "worst_group_accuracy": min(accuracies),
        "aligned_accuracy": _mean_or_none(correct[aligned]),
        "conflicting_accuracy": _mean_or_none(correct[~aligned]),
        "groups": groups,
    }


def train_weighted_accuracy(
    labels: np.ndarray,
    correct: np.ndarray,
    bias: np.ndarray,
    train_labels: np.ndarray,
    train_bias: np.ndarray,
) -> float | None:
    """Accuracy of the groups class x bias, weighted by their shares of the training images.

    The average that Waterbirds is reported with (Sagawa et al., arXiv 1911.08731), and the
    in-distribution accuracy of UrbanCars (Li et al., arXiv 2212.04825). Groups without a test image
    are left out.

    Args:
        labels: int [N] of the test images.
        correct: bool [N].
        bias: int [N].
        train_labels: int [M].
        train_bias: int [M].

    Returns:
        In 0..1; None where a bias is unknown (-1) or no group occurs in both.
    """
    if np.any(bias < 0) or np.any(train_bias < 0):
        return None
    total, weight = 0.0, 0
    for label, value in {*zip(labels.tolist(), bias.tolist(), strict=True)}:
        count = int(np.sum((train_labels == label) & (train_bias == value)))
        total += count * float(correct[(labels == label) & (bias == value)].mean())
        weight += count
    return total / weight if weight else None


def attribute_gaps(
    labels: np.ndarray,
    correct: np.ndarray,
    bias: np.ndarray,
    bias_attributes: Mapping[str, Sequence[int]],
    reference: float,
) -> dict[str, float]:
    """Accuracy lost on images where some bias attributes conflict and the others are aligned.

    The gaps of UrbanCars (Li et al., arXiv 2212.04825), with the sign that its tables print.

    Args:
        labels: int [N].
        correct: bool [N].
        bias: int [N], at least 0.
        bias_attributes: For every attribute the class that each bias value goes with in it.
        reference: The in-distribution accuracy, which the gaps are measured from.

    Returns:
        For every set of attributes, their names joined by "_and_", "<set>_conflicting_accuracy"
        and "<set>_gap", which is the reference minus it; sets without an image are left out.
    """
    names = list(bias_attributes)
    conflicts = np.array([np.array(bias_attributes[name])[bias] != labels for name in names])
    result = {}
    for size in range(1, len(names) + 1):
        for chosen in itertools.combinations(range(len(names)), size):
            member = np.all(conflicts == np.isin(np.arange(len(names)), chosen)[:, None], axis=0)
            if member.any():
                key = "_and_".join(names[i] for i in chosen)
                accuracy = float(correct[member].mean())
                result[f"{key}_conflicting_accuracy"] = accuracy
                result[f"{key}_gap"] = reference - accuracy
    return result


def _check_predictions(
    labels: np.ndarray, predicted: np.ndarray, bias: np.ndarray, num_classes: int
) -> None:
    if not len(labels) == len(predicted) == len(bias) or len(labels) == 0:
        raise ValueError(
            f"There are {len(labels)} labels, {len(predicted)} predictions and {len(bias)} biases;"
            " the three must be equal and not 0."
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"A label lies outside 0..{num_classes - 1}.")


def _group_accuracies(
    labels: np.ndarray,
    values: np.ndarray,
    correct: np.ndarray,
    class_names: Sequence[str],
    value_names: Sequence[str],
) -> list[dict[str, Any]]:
    """Name, count and accuracy of every group of class and value that has an image."""
    groups = []
    for label, class_name in enumerate(class_names):
        for value, value_name in enumerate(value_names):
            member = (labels == label) & (values == value)
            if member.any():
                name = f"{class_name}/{value_name}"
                accuracy = float(correct[member].mean())
                groups.append({"name": name, "count": int(member.sum()), "accuracy": accuracy})
    return groups


def _mean_or_none(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None
