"""Biased Action Recognition (BAR): six actions, most of them photographed at one kind of place.

The original set (Nam et al., "Learning from Failure", NeurIPS 2020; files alinlab/BAR), or the tree
that BiasEnsemble made of it (Lee et al., AAAI 2023; code kakaoenterprise/BiasEnsemble).
"""

import os
from pathlib import Path

from ddb_jax.data.images.files import (
    check_classes,
    files_of,
    find_images,
    subfolders,
)
from ddb_jax.data.images.left_out import with_left_out
from ddb_jax.data.listing import Listing
from ddb_jax.data.sets.align_conflict import check_pct, published_counts, read_tagged

# Alphabetical, which is the order of the labels in BiasEnsemble's tree; the places in this order.
CLASSES = ("climbing", "diving", "fishing", "pole vaulting", "racing", "throwing")
PLACES = ("rock wall", "underwater", "water surface", "sky", "paved track", "playing field")

# Images of every class in the original set.
TRAIN_COUNTS = (326, 520, 163, 279, 336, 317)
TEST_COUNTS = (105, 159, 42, 131, 132, 85)

# Of BiasEnsemble's tree, table 5 of DiffuBias (arXiv 2411.16079).
TREE_TRAIN = {"1pct": (1_761, 14), "5pct": (1_761, 85)}
TREE_TEST = (570,)


def list_bar(root: Path, *, pct: str = "") -> Listing:
    """List BAR, in whichever of its two forms is there.

    Original: `<root>/{train,test}/<class>_<n>.jpg`, flat. It has no validation split and no bias
    labels; its authors regard the training images as aligned and the test images as not.

    BiasEnsemble's tree: `<root>/train/align/<class>/*`, `<root>/train/conflict/<pct>/<class>/*`,
    `<root>/valid` and `<root>/test`, files named `<id>_<label>_<bias>`. As in its code, the bias of
    a training image is its label in align/ and (label + 1) mod 6 in conflict/, whatever its name
    says; so it is here in the other splits, by whether the name's label and bias agree.

    Args:
        root: Folder with train/ and test/.
        pct: Folder of the share of conflicting images in the tree; "" for the original.

    Raises:
        FileNotFoundError: A folder is missing.
        ValueError: pct does not suit the form, or a file's name is not of this form.
    """
    root = Path(root)
    folders = subfolders(root)
    for folder in ("train", "test"):
        if folder not in folders:
            raise FileNotFoundError(
                f"there is no {folder}/ in {root}: give the folder that holds BAR's train/ and"
                " test/."
            )
    is_tree = "align" in subfolders(root / "train")
    if pct and not is_tree:
        raise ValueError(
            f"{root} is the original BAR, which has no {pct}: leave pct empty, or give"
            " BiasEnsemble's tree."
        )
    return check_classes(_list_tree(root, pct) if is_tree else _list_original(root))


def _list_original(root: Path) -> Listing:
    splits, others = {}, []
    for split in ("train", "test"):
        rows = []
        images, left_out = find_images(root, split)
        others += left_out
        for path in images:
            action, _, number = os.path.splitext(path.rpartition("/")[2])[0].rpartition("_")
            if action not in CLASSES or not number.isdecimal():
                raise ValueError(
                    f"{root / path} is not named <class>_<number> with a class of"
                    f" {', '.join(CLASSES)}: rename or remove it."
                )
            rows.append((path, CLASSES.index(action), -1))
        splits[split] = files_of(rows)
    published = {
        split: {"total": sum(counts), **dict(zip(CLASSES, counts, strict=True))}
        for split, counts in (("train", TRAIN_COUNTS), ("test", TEST_COUNTS))
    }
    notes = ("The original BAR does not say which images are aligned.",)
    listing = Listing("bar", root, splits, CLASSES, notes=notes, published_counts=published)
    return with_left_out(listing, others)


def _marked(label: int) -> int:
    """The bias value that stands for any bias other than the class's."""
    return (label + 1) % len(CLASSES)


def _list_tree(root: Path, pct: str) -> Listing:
    check_pct(root / "train" / "conflict", pct)
    aligned, others = read_tagged(root, "train/align", len(CLASSES), None)
    conflicting, left_out = read_tagged(root, f"train/conflict/{pct}", len(CLASSES), None)
    others += left_out
    splits = {
        "train": files_of(
            [(path, label, label) for path, label, _ in aligned]
            + [(path, label, _marked(label)) for path, label, _ in conflicting]
        )
    }
    for split, folder in (("validation", "valid"), ("test", "test")):
        if folder in subfolders(root):
            rows, left_out = read_tagged(root, folder, len(CLASSES), len(PLACES))
            splits[split] = files_of(
                [
                    (path, label, label if bias == label else _marked(label))
                    for path, label, bias in rows
                ]
            )
            others += left_out
    notes = (
        "The bias of a conflicting image of this BAR only marks it as conflicting, as that of"
        " training images does in BiasEnsemble's code; where it was taken is not known.",
    )
    listing = Listing(
        "bar",
        root,
        splits,
        CLASSES,
        PLACES,
        notes,
        bias_is_marker=True,
        published_counts=published_counts(pct, TREE_TRAIN, TREE_TEST),
    )
    return with_left_out(listing, others)
