"""Which generated images are copies of training images.

The test is that of Carlini et al., "Extracting Training Data from Diffusion Models" (arXiv
2301.13188), on CIFAR-10: an image is a copy where the Euclidean distance to the nearest training
image, divided by `ratio` times the mean distance to the `neighbours` nearest, is below 1. Dividing
makes up for flat images, which are near to many. They take 0.5 and 50, of 50,000 images; in a small
set of few kinds of image, where the 50 nearest are of other kinds too, distinct images pass for
copies, and fewer neighbours are needed. The share of held-out real images flagged shows this.
"""

from typing import NamedTuple

import numpy as np

# Nearest neighbours are first searched with a formula that rounds; this many extra candidates are
# then measured exactly.
SPARE = 16


class Copies(NamedTuple):
    """What the test says of every generated image.

    Attributes:
        is_copy: bool [M].
        nearest: int64 [M], position of the nearest training image.
        distance: float64 [M], to that.
        relative: float64 [M], distance / mean distance to the nearest training images, 0 where both
            are; a copy's is below `ratio`.
    """

    is_copy: np.ndarray
    nearest: np.ndarray
    distance: np.ndarray
    relative: np.ndarray


def copies(
    generated: np.ndarray,
    training: np.ndarray,
    ratio: float = 0.5,
    neighbours: int = 50,
    chunk_size: int = 64,
) -> Copies:
    """Compare every generated image with every training image.

    Args:
        generated: Pixels, uint8 or float [M, D].
        training: Pixels in the same unit [N, D].
        ratio: Above 0; the higher, the more images count as copies.
        neighbours: Training images that the mean is over, at least 1; all where there are fewer.
        chunk_size: Generated images that are compared at a time.

    Raises:
        ValueError: There is no training image, D differs, or ratio or neighbours is out of range.
    """
    generated, training = np.asarray(generated), np.asarray(training)
    if training.ndim != 2 or generated.ndim != 2 or generated.shape[1] != training.shape[1]:
        raise ValueError(
            f"generated and training images must be [M, D] and [N, D], not {generated.shape} and"
            f" {training.shape}."
        )
    if not len(training) or ratio <= 0 or neighbours < 1:
        raise ValueError(
            f"there are {len(training)} training images, ratio is {ratio} and neighbours"
            f" {neighbours}: it takes an image, a ratio above 0 and a neighbour."
        )
    neighbours = min(neighbours, len(training))
    candidates = min(neighbours + SPARE, len(training))
    # About the mean, where |x|^2 - 2 x.y + |y|^2 rounds least.
    mean = training.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = training.astype(np.float32) - mean
    squared_norms = np.sum(centred**2, axis=1)
    nearest = np.empty(len(generated), np.int64)
    distance, relative = np.empty((2, len(generated)))
    for start in range(0, len(generated), chunk_size):
        chunk = generated[start : start + chunk_size].astype(np.float32)
        here = slice(start, start + len(chunk))
        # Without |x|^2, which does not change the order.
        rounded = squared_norms - 2.0 * ((chunk - mean) @ centred.T)
        found = np.argpartition(rounded, candidates - 1, axis=1)[:, :candidates]
        exact = np.linalg.norm(
            chunk[:, None].astype(np.float64) - training[found].astype(np.float64), axis=2
        )
        order = np.argsort(exact, axis=1)[:, :neighbours]
        nearest[here] = np.take_along_axis(found, order[:, :1], axis=1)[:, 0]
        distances = np.take_along_axis(exact, order, axis=1)
        distance[here] = distances[:, 0]
        mean_distance = distances.mean(axis=1)
        relative[here] = distances[:, 0] / np.where(mean_distance > 0, mean_distance, 1.0)
    return Copies(relative < ratio, nearest, distance, relative)
