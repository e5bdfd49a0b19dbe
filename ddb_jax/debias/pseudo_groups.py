"""Which training images conflict with the bias, and the groups that follow from it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np


class Groups(NamedTuple):
    """A partition of a split into non-empty groups.

    Attributes:
        ids: int32 [N], in 0..G-1.
        names: G names, such as "cat/aligned".
        sizes: int64 [G], all positive.
        dropped: Names of the groups without an example, which get no id.
    """

    ids: np.ndarray
    names: tuple[str, ...]
    sizes: np.ndarray
    dropped: tuple[str, ...]


def error_set(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """bool [N]: the amplifier misclassifies the image; both arguments are int [N]."""
    return np.asarray(labels) != np.asarray(predicted)


def loss_threshold(
    labels: np.ndarray, predicted: np.ndarray, losses: np.ndarray, gamma: float
) -> tuple[np.ndarray, float]:
    """Misclassified images whose loss exceeds mean + gamma * std.

    Mean and (population) standard deviation are those of the losses of the correctly classified
    images. Without any, the threshold is -inf, and the result is the error set.

    Args:
        labels: int [N].
        predicted: int [N], the amplifier's predictions.
        losses: float [N], its cross-entropies.
        gamma: Standard deviations above the mean.

    Returns:
        bool [N], and the threshold.

    Raises:
        ValueError: A loss is not finite.
    """
    losses = np.asarray(losses, np.float64)
    bad = np.flatnonzero(~np.isfinite(losses))
    if bad.size:
        raise ValueError(f"The amplifier's loss of example {bad[0]} is {losses[bad[0]]}.")
    wrong = error_set(labels, predicted)
    if wrong.all():
        return wrong, -np.inf
    correct_losses = losses[~wrong]
    threshold = float(correct_losses.mean() + gamma * correct_losses.std())
    return wrong & (losses > threshold), threshold


def _error_set_rule(
    labels: np.ndarray, predicted: np.ndarray, losses: np.ndarray, gamma: float
) -> tuple[np.ndarray, float]:
    del losses, gamma
    return error_set(labels, predicted), -np.inf


Rule = Callable[[np.ndarray, np.ndarray, np.ndarray, float], tuple[np.ndarray, float]]
RULES: dict[str, Rule] = {"error_set": _error_set_rule, "loss_threshold": loss_threshold}


def conflicting_by_rule(
    rule: str, labels: np.ndarray, predicted: np.ndarray, losses: np.ndarray, gamma: float
) -> tuple[np.ndarray, float]:
    """Images flagged as bias-conflicting, bool [N], and the loss threshold (-inf for none).

    Arguments are those of `loss_threshold`; "error_set" ignores the losses and gamma.

    Raises:
        ValueError: The rule is not in RULES.
    """
    if rule not in RULES:
        raise ValueError(f"Unknown pseudo-group rule {rule!r}; the rules are {', '.join(RULES)}.")
    return RULES[rule](labels, predicted, losses, gamma)


def assign_groups(
    labels: np.ndarray,
    conflicting: np.ndarray,
    num_classes: int,
    class_names: Sequence[str] | None = None,
) -> Groups:
    """Groups of class x {aligned, conflicting}: class by class, the aligned one first.

    Args:
        labels: int [N] in 0..num_classes-1.
        conflicting: bool [N].
        num_classes: Number of classes.
        class_names: For the groups' names; the class numbers when None.

    Raises:
        ValueError: A label is out of range, or the lengths differ.
    """
    attribute = np.asarray(conflicting, bool).astype(np.int64)
    return _group_cells(labels, attribute, num_classes, class_names, ("aligned", "conflicting"))


def assign_bias_groups(
    labels: np.ndarray,
    bias: np.ndarray,
    num_classes: int,
    num_biases: int,
    class_names: Sequence[str] | None = None,
    bias_names: Sequence[str] | None = None,
) -> Groups:
    """Groups of class x bias attribute, class by class.

    Args:
        labels: int [N] in 0..num_classes-1.
        bias: int [N] in 0..num_biases-1.
        num_classes: Number of classes.
        num_biases: Number of values of the bias attribute.
        class_names: For the groups' names; the class numbers when None.
        bias_names: Likewise.

    Raises:
        ValueError: A label or a bias is out of range (-1, unknown, is), or the lengths differ.
    """
    bias_names = bias_names or [str(value) for value in range(num_biases)]
    return _group_cells(labels, np.asarray(bias), num_classes, class_names, bias_names)


def _group_cells(
    labels: np.ndarray,
    attribute: np.ndarray,
    num_classes: int,
    class_names: Sequence[str] | None,
    attribute_names: Sequence[str],
) -> Groups:
    labels = np.asarray(labels)
    if labels.shape != attribute.shape:
        raise ValueError(f"There are {len(attribute)} attributes for {len(labels)} labels.")
    num_values = len(attribute_names)
    for what, values, size in (("label", labels, num_classes), ("bias", attribute, num_values)):
        bad = np.flatnonzero((values < 0) | (values >= size))
        if bad.size:
            raise ValueError(
                f"The {what} of example {bad[0]} is {values[bad[0]]}; it must lie in 0..{size - 1}."
            )
    class_names = class_names or [str(label) for label in range(num_classes)]
    names = [f"{label}/{value}" for label in class_names for value in attribute_names]
    cells = labels.astype(np.int64) * num_values + attribute
    sizes = np.bincount(cells, minlength=len(names))
    kept = sizes > 0
    return Groups(
        ids=(np.cumsum(kept) - 1)[cells].astype(np.int32),
        names=tuple(name for name, keep in zip(names, kept, strict=True) if keep),
        sizes=sizes[kept],
        dropped=tuple(name for name, keep in zip(names, kept, strict=True) if not keep),
    )
