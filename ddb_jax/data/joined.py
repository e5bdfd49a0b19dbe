"""Several sources read as one, such as real images and the generated ones that go with them."""

from collections.abc import Sequence

import numpy as np

from ddb_jax.data.source import Example, Source


class Joined(Source):
    """Sources of one image shape end to end; "index" is the position in the whole.

    Args:
        sources: At least one; their labels, bias and paths are kept.

    Raises:
        ValueError: There is no source, or their images differ in shape.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        shapes = [tuple(source.image_shape) for source in sources]
        if not shapes:
            raise ValueError("there are no sources to be joined.")
        if len(set(shapes)) > 1:
            shown = ", ".join(map(str, dict.fromkeys(shapes)))
            raise ValueError(f"sources to be joined must have images of one shape, not {shown}.")
        self._sources = tuple(sources)
        sizes = [len(source) for source in sources]
        # Which source an example comes from, and its position there.
        self._source_of = np.repeat(np.arange(len(sizes)), sizes)
        self._place_of = np.concatenate([np.arange(size) for size in sizes])
        self.labels = np.concatenate([source.labels for source in sources])
        self.bias = np.concatenate([source.bias for source in sources])
        self.paths = tuple(path for source in sources for path in source.paths)
        self.image_shape = shapes[0]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Example:
        index = range(len(self))[index]
        example = self._sources[self._source_of[index]][int(self._place_of[index])]
        return {**example, "index": np.int32(index)}

    def gather(self, indices: np.ndarray) -> Example:
        """One `gather` of every source that is touched."""
        source_of, place_of = self._source_of[indices], self._place_of[indices]
        images = np.empty((len(indices), *self.image_shape), np.uint8)
        for number in np.unique(source_of):
            here = np.flatnonzero(source_of == number)
            images[here] = self._sources[number].gather(place_of[here])["image"]
        return {
            "image": images,
            "label": self.labels[indices],
            "bias": self.bias[indices],
            "index": np.asarray(indices, np.int32),
        }
