"""A data set as files: which image files, labels and biases each split has, before any is decoded.

A recipe reads a folder's layout into a `Listing`; `prepare.py` decodes a listing into a `Dataset`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ddb_jax.data.images.facts import number_of
from ddb_jax.data.source import stratified_split


@dataclass(frozen=True)
class Files:
    """The image files of one split.

    Attributes:
        paths: Relative to the listing's root, with forward slashes; the order is the index.
        labels: int32 [N].
        bias: int32 [N], -1 where unknown.
    """

    paths: tuple[str, ...]
    labels: np.ndarray
    bias: np.ndarray

    def select(self, positions: np.ndarray) -> "Files":
        """The files at these positions."""
        paths = tuple(self.paths[int(i)] for i in positions)
        return Files(paths, self.labels[positions], self.bias[positions])

    def joined(self, other: "Files") -> "Files":
        """These files, then the others."""
        return Files(
            (*self.paths, *other.paths),
            np.concatenate([self.labels, other.labels]),
            np.concatenate([self.bias, other.bias]),
        )


@dataclass(frozen=True)
class Listing:
    """A data set whose images are still files; the fields are those of `Dataset`.

    Attributes:
        name: Name of the data set.
        root: Folder that the paths are relative to.
        splits: "train", and "validation" and "test" where the layout has them.
        class_names: Name of every label.
        bias_names: Name of every bias value; empty where no bias is annotated.
        notes: Lines for the log.
        bias_attributes: See `Dataset`.
        bias_is_marker: See `Dataset`.
        published_counts: See `Dataset`.
        warnings: Sentences on what may cost the user data; logged as warnings before all notes.
        drawn: The splits that were drawn from train.
    """

    name: str
    root: Path
    splits: Mapping[str, Files]
    class_names: tuple[str, ...]
    bias_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    bias_attributes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    bias_is_marker: bool = False
    published_counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    drawn: tuple[str, ...] = ()


def complete_splits(
    listing: Listing, validation_share: float, test_share: float, seed: int
) -> Listing:
    """The listing with missing splits drawn from train: seeded, stratified by class, noted.

    Args:
        listing: Has a train split.
        validation_share: Share of train (after a missing test split was drawn from it).
        test_share: Share of train.
        seed: Seed of the draws.

    Raises:
        ValueError: A class is too small to be divided.
    """
    splits, notes = dict(listing.splits), list(listing.notes)
    drawn = "train"
    for split, share in (("test", test_share), ("validation", validation_share)):
        if split in splits:
            continue
        train = splits["train"]
        sizes = [int(np.sum(train.labels == i)) for i in range(len(listing.class_names))]
        single = [name for name, n in zip(listing.class_names, sizes, strict=True) if n == 1]
        try:
            rest, part = stratified_split(train.labels, share, seed)
        except ValueError as error:
            raise ValueError(
                f"{listing.name} has no {split} split, and {error}"
                + (f" ({', '.join(single)})" if single else "")
                + f": add images or a {split} split, or change config.data.{split}_share."
            ) from None
        splits["train"], splits[split] = train.select(np.sort(rest)), train.select(np.sort(part))
        drawn = f"{drawn}+{split}"
        notes.append(
            f"{listing.name} has no {split} split: {len(part):,} of the {len(train.paths):,}"
            f" training images, a share of {share:g} of every class, were drawn with seed {seed}."
        )
        absent = [
            name
            for i, name in enumerate(listing.class_names)
            if sizes[i] and i not in splits[split].labels
        ]
        if absent:
            notes.append(
                f"The drawn {split} split has no image of class {', '.join(absent)}: too few."
            )
    published = {
        drawn if split == "train" else split: table
        for split, table in listing.published_counts.items()
    }
    return replace(
        listing,
        splits=splits,
        notes=tuple(notes),
        published_counts=published,
        drawn=tuple(split for split in splits if split not in listing.splits),
    )


def keep_copies_together(listing: Listing, contents: Mapping[str, str]) -> Listing:
    """The listing, what was drawn from train but is in another split, too, back in train; noted.

    Two files of one content are one image. Which of them a draw takes is chance, and the test split
    would hold what was learned by heart.

    Args:
        listing: As `complete_splits` returns it.
        contents: Hash of every path's content; "" where it is not known.
    """
    splits, notes = dict(listing.splits), list(listing.notes)
    for split in ("test", "validation"):
        if split not in listing.drawn:
            continue
        others = {contents[p] for name in splits if name != split for p in splits[name].paths}
        of = [contents[path] for path in splits[split].paths]
        copied = np.array([bool(content) and content in others for content in of], bool)
        if copied.any() and not copied.all():
            moved = splits[split].select(np.flatnonzero(copied))
            splits["train"] = splits["train"].joined(moved)
            splits[split] = splits[split].select(np.flatnonzero(~copied))
            notes.append(
                f"{number_of(moved.paths)} drawn for {split} stayed in train, for there is a copy"
                f" in another split, for example of {moved.paths[0]}."
            )
    return replace(listing, splits=splits, notes=tuple(notes))
