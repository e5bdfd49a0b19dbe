"""Pixels of small versions of images, as vectors whose distance says how alike two images are."""

from collections.abc import Iterator

import numpy as np

from ddb_jax.data.images.decode import resize_all
from ddb_jax.data.source import Source

# Side up to which pixels are compared: beyond it the memory grows and the answer hardly changes.
MAX_SIDE = 32
CHUNK_SIZE = 256


def small_pixels(images: np.ndarray) -> np.ndarray:
    """Square images uint8 [N, S, S, 3] scaled down to at most MAX_SIDE and flattened, uint8."""
    side = min(images.shape[1], MAX_SIDE)
    return resize_all(images, side).reshape(len(images), side * side * 3)


def small_pixels_of(source: Source) -> np.ndarray:
    """`small_pixels` of every image of a source, read in parts."""
    return np.concatenate([small_pixels(part) for part in _parts(source)])


def _parts(source: Source) -> Iterator[np.ndarray]:
    for start in range(0, len(source), CHUNK_SIZE):
        yield source.gather(np.arange(start, min(start + CHUNK_SIZE, len(source))))["image"]
