"""Training images on which a biased classifier fails most: DiffuBias' conflicting candidates.

DiffuBias (arXiv 2411.16079) takes the K = 100 images of highest loss. Its text reads as 100 in all;
its code takes 100 per class (200 where 5% of the images conflict). The loss is cross-entropy in the
code and in equation 3, GCE in the prose.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Extraction(NamedTuple):
    """Some images of a split.

    Attributes:
        indices: int64 [M], their positions: class by class where drawn per class, the highest
            loss first, equal losses in the order of their positions.
        notes: Lines for the log, one for each class with fewer images than asked for.
    """

    indices: np.ndarray
    notes: tuple[str, ...]


def highest_losses(
    losses: np.ndarray,
    labels: np.ndarray,
    k: int,
    per_class: bool = True,
    class_names: Sequence[str] | None = None,
) -> Extraction:
    """The K images of highest loss.

    Args:
        losses: float [N], finite.
        labels: int [N], 0 to num_classes - 1.
        k: Images of each class, or in all; a class (or split) with fewer gives all it has.
        per_class: Whether K is per class, as in DiffuBias' code, or overall, as its text reads.
        class_names: For the notes; the class numbers when None.

    Raises:
        ValueError: A loss is not finite, the lengths differ, or k is below 1.
    """
    losses, labels = np.asarray(losses, np.float64), np.asarray(labels)
    if k < 1:
        raise ValueError(f"k is {k}, it must be at least 1.")
    if losses.shape != labels.shape:
        raise ValueError(f"There are {losses.size} losses for {labels.size} labels.")
    bad = np.flatnonzero(~np.isfinite(losses))
    if bad.size:
        raise ValueError(f"The loss of example {bad[0]} is {losses[bad[0]]}.")
    order = np.argsort(-losses, kind="stable")
    if not per_class:
        note = f"{k:,} images were asked for and there are {len(order):,}: all are taken."
        return Extraction(order[:k], (note,) if len(order) < k else ())
    num_classes = len(class_names) if class_names else int(np.max(labels, initial=-1)) + 1
    parts, notes = [np.empty(0, order.dtype)], []
    for label in range(num_classes):
        members = order[labels[order] == label]
        parts.append(members[:k])
        if len(members) < k:
            name = class_names[label] if class_names else label
            notes.append(
                f"{k:,} images of class {name} were asked for and it has {len(members):,}: all are"
                " taken."
            )
    return Extraction(np.concatenate(parts), tuple(notes))
