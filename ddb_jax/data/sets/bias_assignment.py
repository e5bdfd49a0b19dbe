"""Assigns biases to images with exact counts, for data sets whose bias we add."""

import numpy as np


def assign_bias(
    labels: np.ndarray, aligned: np.ndarray | None, rng: np.random.Generator, num_biases: int
) -> np.ndarray:
    """Bias of every image, int32 [N]; within a class no two other biases differ by more than one.

    With one seed an image that conflicts at some numbers conflicts at all smaller numbers of
    aligned images, mostly with the same bias.

    Args:
        labels: int [N], 0 to num_biases - 1.
        aligned: Images of every class whose bias is their label, int [num_biases]; the class's
            others divide evenly over the other biases. None divides each class over all of them.
        rng: Chooses which image takes which bias.
        num_biases: Number of biases, which is the number of classes.
    """
    bias = np.empty(len(labels), np.int32)
    values = np.arange(num_biases)
    for label in range(num_biases):
        others = values if aligned is None else values[values != label]
        members = rng.permutation(np.flatnonzero(labels == label))
        # Repeated in turn; the permutation decides which biases get one image more.
        spread = np.resize(rng.permutation(others), len(members))
        # The last members conflict first: a smaller share only adds to the conflicting images.
        own = np.arange(len(members)) < (0 if aligned is None else aligned[label])
        bias[members] = np.where(own, label, spread[::-1])
    return bias


def apportion(sizes: np.ndarray, share: float) -> np.ndarray:
    """Integers near sizes * share that sum to round(sum * share), by largest remainder; int [C]."""
    quotas = sizes * share
    result = np.floor(quotas).astype(int)
    missing = round(sizes.sum() * share) - result.sum()
    result[np.argsort(result - quotas, kind="stable")[:missing]] += 1
    return result


def check_share(conflicting_share: float) -> None:
    """Refuse a share outside 0..1.

    Raises:
        ValueError: It is.
    """
    if not 0 <= conflicting_share <= 1:
        raise ValueError(f"conflicting_share is {conflicting_share}, it must be between 0 and 1.")
