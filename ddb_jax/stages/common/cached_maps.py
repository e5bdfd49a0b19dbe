"""The maps that the last block of a frozen network begins with, kept on disk, as a source."""

import numpy as np

from ddb_jax.data.source import Example, Source, Subset
from ddb_jax.runtime.errors import UserError
from ddb_jax.runtime.files import load_array
from ddb_jax.stages.context import Context

KEPT = ("train", "validation")


class CachedMaps(Source):
    """Maps in the place of images: "image" is float16 [V, h, w, C], V views of one image.

    Args:
        maps: float16 [N, V, h, w, C]; may lie on disk.
        source: The images that they are of.
    """

    def __init__(self, maps: np.ndarray, source: Source) -> None:
        self._maps = maps
        self.labels, self.bias, self.paths = source.labels, source.bias, source.paths
        self.image_shape = maps.shape[2:]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Example:
        index = range(len(self))[index]
        return {name: values[0] for name, values in self.gather(np.array([index])).items()}

    def gather(self, indices: np.ndarray) -> Example:
        """One indexed copy per field."""
        return {
            "image": np.asarray(self._maps[indices]),
            "label": self.labels[indices],
            "bias": self.bias[indices],
            "index": np.asarray(indices, np.int32),
        }


def file_name(split: str) -> str:
    """The file of one split's maps."""
    return f"maps_{split}.npy"


def cached_maps(context: Context, source: Source) -> Source:
    """What `frozen_maps` has kept of the training or validation split, or of a part of one.

    Raises:
        UserError: It has kept nothing of these images.
    """
    if isinstance(source, Subset):
        return Subset(cached_maps(context, source.whole), source.indices)
    for split in KEPT:
        if source is context.dataset.splits[split]:
            path = context.inputs["frozen_maps"] / file_name(split)
            return CachedMaps(load_array(path, on_disk=True), source)
    raise UserError(
        f"{context.name} needs other images than those of training and validation, and"
        " config.classifier.trainable 'last_block' keeps the maps of these alone: take 'all'."
    )
