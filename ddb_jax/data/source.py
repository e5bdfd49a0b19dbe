"""The data contract: sources give examples by position, a dataset holds three of them.

An example is `{image: uint8 [H, W, 3], label: int32, bias: int32, index: int32}`. `index` is the
position in its source; per-sample tables (scores, pseudo-groups) are joined by it. `bias` is coded
so that bias == label means aligned with the class and anything else conflicting; -1 is unknown.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from sklearn.model_selection import train_test_split

from ddb_jax.data.images.facts import Finding, ImageFacts

Example = dict[str, np.ndarray]


class Source(Protocol):
    """Random access to labelled images; subclasses with a faster way override `gather`.

    Attributes:
        labels: Class of every example, int32 [N].
        bias: Bias attribute of every example, int32 [N], -1 where unknown.
        paths: File or id of every example.
        image_shape: (height, width, 3).
    """

    labels: np.ndarray
    bias: np.ndarray
    paths: Sequence[str]
    image_shape: tuple[int, int, int]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...

    def gather(self, indices: np.ndarray) -> Example:
        """The examples at int [B] positions, stacked: image uint8 [B, H, W, 3], the rest [B]."""
        examples = [self[int(i)] for i in indices]
        return {name: np.stack([example[name] for example in examples]) for name in examples[0]}


class ArraySource(Source):
    """Images held in memory.

    Args:
        images: uint8 [N, H, W, 3].
        labels: int [N].
        bias: int [N], -1 where unknown.
        paths: Id of every image; None numbers them.

    Raises:
        ValueError: The arrays do not have these shapes or this dtype.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        bias: np.ndarray,
        paths: Sequence[str] | None = None,
    ) -> None:
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(
                f"images must be uint8 [N, H, W, 3], not {images.dtype} {list(images.shape)}."
            )
        paths = tuple(map(str, range(len(images))) if paths is None else paths)
        for name, values in (("labels", labels), ("bias", bias), ("paths", paths)):
            if len(values) != len(images):
                raise ValueError(f"there are {len(images)} images but {len(values)} {name}.")
        self.images = images
        self.labels = np.asarray(labels, np.int32)
        self.bias = np.asarray(bias, np.int32)
        self.paths = paths
        self.image_shape = images.shape[1:]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Example:
        index = range(len(self))[index]
        return {
            "image": self.images[index],
            "label": self.labels[index],
            "bias": self.bias[index],
            "index": np.int32(index),
        }

    def gather(self, indices: np.ndarray) -> Example:
        """One indexed copy per field."""
        return {
            "image": self.images[indices],
            "label": self.labels[indices],
            "bias": self.bias[indices],
            "index": np.asarray(indices, np.int32),
        }


class _BiasHidden(Source):
    """Another source with every bias unknown."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.labels, self.paths = source.labels, source.paths
        self.image_shape = source.image_shape
        self.bias = np.full(len(source), -1, np.int32)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Example:
        return {**self._source[index], "bias": np.int32(-1)}

    def gather(self, indices: np.ndarray) -> Example:
        """The other source's examples, their bias -1."""
        return {**self._source.gather(indices), "bias": self.bias[indices]}


class Subset(Source):
    """Some examples of another source; their "index" is the position here.

    Attributes:
        whole: The other source.
        indices: int [M], the positions of the examples in it.
    """

    def __init__(self, source: Source, indices: np.ndarray) -> None:
        """Args:
        source: Any source.
        indices: int [M], positions in it.
        """
        self.whole, self.indices = source, np.asarray(indices)
        self.labels, self.bias = source.labels[self.indices], source.bias[self.indices]
        self.paths = tuple(source.paths[i] for i in self.indices)
        self.image_shape = source.image_shape

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Example:
        return {**self.whole[int(self.indices[index])], "index": np.int32(index)}

    def gather(self, indices: np.ndarray) -> Example:
        """The other source's examples at these positions of the subset."""
        found = self.whole.gather(self.indices[indices])
        return {**found, "index": np.asarray(indices, np.int32)}


@dataclass(frozen=True)
class Dataset:
    """Three splits and the names of what is in them.

    Attributes:
        name: Name of the data set.
        train: What is learned from.
        validation: What selects steps and settings.
        test: What is reported.
        class_names: Name of every label.
        bias_names: Name of every bias value; empty where no bias is annotated.
        notes: Lines for the log on how the splits were made.
        bias_attributes: If the bias has several attributes, for each the class that every bias
            value goes with; an image is aligned with an attribute if that class is its label.
        bias_is_marker: Whether a bias other than the label only marks the image as conflicting,
            without naming the attribute.
        published_counts: What `counts` should give, split by split, where this is a published set;
            only the keys that are known. "train+validation" is of both together.
        fingerprint: Hash of everything in the splits, including pixels; "" if not computed.
        warnings: Sentences on what may cost the user data; logged as warnings before all notes.
        images: Facts of every image of every split, in its order; empty where the images were not
            decoded from files.
        broken: Path -> reason of the images that cannot be used and are in no split.
        findings: What is suspicious about the images. `warnings` has those that refuse nothing.
    """

    name: str
    train: Source
    validation: Source
    test: Source
    class_names: tuple[str, ...]
    bias_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    bias_attributes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    bias_is_marker: bool = False
    published_counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    fingerprint: str = ""
    warnings: tuple[str, ...] = ()
    images: Mapping[str, tuple[ImageFacts, ...]] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def splits(self) -> dict[str, Source]:
        """The three sources by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def bias_known(self) -> bool:
        """Whether every image of every split has its bias annotated."""
        return all(np.all(source.bias >= 0) for source in self.splits.values())


def conflicting(source: Source) -> np.ndarray:
    """int32 [N]: 1 where the bias attribute disagrees with the label, 0 where not, -1 unknown."""
    return np.where(source.bias < 0, -1, source.bias != source.labels).astype(np.int32)


def without_bias(dataset: Dataset) -> Dataset:
    """The same data set with every bias of every split unknown (-1)."""
    hidden = {name: _BiasHidden(source) for name, source in dataset.splits.items()}
    return replace(dataset, **hidden)


def stratified_split(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions [M] without a seeded share of every class, and [N - M] that share, shuffled.

    Args:
        labels: int [N].
        share: Between 0 and 1, exclusive.
        seed: Seed of the draw.

    Raises:
        ValueError: The share is not between 0 and 1, a class has fewer than two examples, or a part
            would have fewer examples than there are classes.
    """
    sizes = np.unique(labels, return_counts=True)[1]
    taken = math.ceil(share * len(labels))  # scikit-learn's rounding
    left = len(labels) - taken
    what = f"a share of {share:g} of {len(labels):,} images"
    if not 0 < share < 1:
        raise ValueError(f"{what} cannot be drawn, it must be greater than 0 and less than 1")
    if sizes.min() < 2:
        raise ValueError(f"{what} cannot be drawn from every class, for one has a single image")
    if min(taken, left) < len(sizes):
        raise ValueError(
            f"{what} takes {taken:,} and leaves {left:,}, which must each be at least the"
            f" {len(sizes)} classes"
        )
    rest, part = train_test_split(
        np.arange(len(labels)), test_size=share, stratify=labels, random_state=seed
    )
    return rest, part


def check_dataset(dataset: Dataset) -> None:
    """Refuse a data set that cannot be trained on.

    Raises:
        ValueError: A split is empty, a label or bias is out of range, the splits' image shapes
            differ, or a class has no training image; the sentence names which.
    """
    name = dataset.name
    num_classes, num_biases = len(dataset.class_names), len(dataset.bias_names)
    for split, source in dataset.splits.items():
        if len(source) == 0:
            raise ValueError(f"the {split} split of {name} is empty.")
        for what, values, lowest, count in (
            ("label", source.labels, 0, num_classes),
            ("bias", source.bias, -1, num_biases),
        ):
            bad = np.flatnonzero((values < lowest) | (values >= count))
            if len(bad):
                raise ValueError(
                    f"{source.paths[bad[0]]} in the {split} split of {name} has {what}"
                    f" {values[bad[0]]}, which is outside {lowest}..{count - 1}."
                )
        if tuple(source.image_shape) != tuple(dataset.train.image_shape):
            raise ValueError(
                f"the {split} images of {name} are {tuple(source.image_shape)} and the training"
                f" images {tuple(dataset.train.image_shape)}; all must have one shape."
            )
    present = np.bincount(dataset.train.labels, minlength=num_classes)
    missing = [dataset.class_names[i] for i in np.flatnonzero(present == 0)]
    if missing:
        raise ValueError(f"{name} has no training image of class {', '.join(missing)}.")
