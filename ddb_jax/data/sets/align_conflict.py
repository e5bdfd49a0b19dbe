"""The published align/conflict trees: Coloured MNIST, Corrupted CIFAR-10, BFFHQ, Dogs & Cats.

A file is named `<id>_<label>_<bias>.<suffix>`. The training images of a share of conflicting ones
lie in `<pct>/align/` and `<pct>/conflict/`, in a folder per label (Lee et al., NeurIPS 2021, code
kakaoenterprise/Learning-Debiased-Disentangled; Lee et al., AAAI 2023, code
kakaoenterprise/BiasEnsemble).
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ddb_jax.data.images.files import (
    Row,
    check_classes,
    files_of,
    find_images,
    subfolders,
)
from ddb_jax.data.images.left_out import Other, with_left_out
from ddb_jax.data.listing import Listing


@dataclass(frozen=True)
class Tree:
    """A published set.

    Attributes:
        class_names: Name of every label.
        bias_names: Name of every bias value; the i-th goes with class i.
        train: Aligned and conflicting training images by share; None where it is not sure.
        test: Aligned and conflicting test images, or, in one number, all.
    """

    class_names: tuple[str, ...]
    bias_names: tuple[str, ...]
    train: Mapping[str, tuple[int | None, int]]
    test: tuple[int, ...]


# Counts: table 5 of DiffuBias (arXiv 2411.16079). It says 9,120 aligned for BFFHQ at 5%, which does
# not fit the 19,200 images of its other shares. The bias of the colours and of Dogs & Cats, and
# which of its labels is the dog, are not named in the published code.
TREES = {
    "cmnist": Tree(
        tuple(map(str, range(10))),
        tuple(f"colour {i}" for i in range(10)),
        {
            "0.5pct": (54_729, 271),
            "1pct": (54_454, 546),
            "2pct": (53_904, 1_096),
            "5pct": (52_254, 2_746),
        },
        (1_006, 8_994),
    ),
    "ccifar10": Tree(
        tuple("airplane automobile bird cat deer dog frog horse ship truck".split()),
        (
            *("snow", "frost", "defocus blur", "brightness", "contrast"),
            *("spatter", "frosted glass blur", "JPEG", "pixelate", "saturate"),
        ),
        {
            "0.5pct": (44_832, 228),
            "1pct": (44_527, 442),
            "2pct": (44_145, 887),
            "5pct": (42_820, 2_242),
        },
        (1_000, 9_000),
    ),
    "bffhq": Tree(
        ("young", "old"),
        ("female", "male"),
        {
            "0.5pct": (19_104, 96),
            "1pct": (19_008, 192),
            "2pct": (18_816, 384),
            "5pct": (None, 960),
        },
        (500, 500),
    ),
    "dogs_and_cats": Tree(
        ("class 0", "class 1"),
        ("bias 0", "bias 1"),
        {"1pct": (8_037, 80), "5pct": (8_037, 452)},
        (1_000,),
    ),
}


def list_align_conflict(root: Path, *, name: str, pct: str) -> Listing:
    """List `<root>/<pct>/{align,conflict}/<label>/*`, the validation and the test split.

    Validation is `<pct>/valid` or else `valid`, and may be missing; test is `test` or else
    `<pct>/test`; each with or without folders for the labels. All of BFFHQ's test split is listed;
    its authors' code tests on the 500 conflicting images alone.

    Args:
        root: Folder that holds the folder of the share.
        name: Key of TREES.
        pct: Folder of the share, such as "0.5pct".

    Raises:
        FileNotFoundError: A folder is missing.
        ValueError: There is no such set, or a file lies where its name says it does not belong.
    """
    root = Path(root)
    if name not in TREES:
        raise ValueError(f"there is no align/conflict tree {name!r}, there is {', '.join(TREES)}.")
    tree = TREES[name]
    check_pct(root, pct)
    folders = {
        "train": (f"{pct}/align", f"{pct}/conflict"),
        "validation": _first_folder(root, f"{pct}/valid", "valid"),
        "test": _first_folder(root, "test", f"{pct}/test"),
    }
    if not folders["test"]:
        raise FileNotFoundError(f"there is no folder {root / 'test'}: download {name} again.")
    others, splits = [], {}
    for split, places in folders.items():
        rows = []
        for place in places:
            check = _CHECKS.get(place.rpartition("/")[2])
            found, left_out = read_tagged(
                root, place, len(tree.class_names), len(tree.bias_names), check
            )
            rows += found
            others += left_out
        if places:
            splits[split] = files_of(rows)
    published = published_counts(pct, tree.train, tree.test)
    listing = Listing(
        name, root, splits, tree.class_names, tree.bias_names, published_counts=published
    )
    return check_classes(with_left_out(listing, others))


def check_pct(folder: Path, pct: str) -> None:
    """Refuse a share that has no folder there.

    Raises:
        FileNotFoundError: It has none; names those that are there.
    """
    found = [name for name in subfolders(folder) if name.endswith("pct")]
    if pct not in found:
        raise FileNotFoundError(
            f"pct is {pct!r} and {folder} has {', '.join(found) or 'no such folder at all'}: pct"
            " names the folder of one share of conflicting images."
        )


def read_tagged(
    root: Path,
    folder: str,
    num_classes: int,
    num_biases: int | None,
    agrees: Callable[[int, int], bool] | None = None,
) -> tuple[list[Row], list[Other]]:
    """Rows of the images below a folder, label and bias from `<id>_<label>_<bias>`; other files.

    Args:
        root: Folder that the paths are relative to.
        folder: Relative to root.
        num_classes: Labels lie below it.
        num_biases: So do biases; None takes any.
        agrees: Whether an image of this label and bias belongs in the folder.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: A name is not of this form, or does not agree with the folders it lies in.
    """
    images, others = find_images(root, folder)
    rows = []
    for path in images:
        *folders, file = path.split("/")
        tags = os.path.splitext(file)[0].split("_")[-2:]
        if len(tags) < 2 or not all(tag.isdecimal() for tag in tags):
            raise ValueError(
                f"{root / path} is not named <id>_<label>_<bias>, both numbers: rename or remove"
                " it."
            )
        label, bias = map(int, tags)
        for what, number, count in (("label", label, num_classes), ("bias", bias, num_biases)):
            if count is not None and number >= count:
                raise ValueError(
                    f"the name of {root / path} says {what} {number}, which is not 0 to"
                    f" {count - 1}: rename or remove it."
                )
        if agrees and not agrees(label, bias):
            raise ValueError(
                f"{root / path} lies in {folder}/, but its name says label {label} and bias {bias}:"
                " move or rename it."
            )
        if folders[-1].isdecimal() and int(folders[-1]) != label:
            raise ValueError(
                f"{root / path} lies in the folder of label {folders[-1]}, but its name says label"
                f" {label}: move or rename it."
            )
        rows.append((path, label, bias))
    return rows, others


def published_counts(
    pct: str, train: Mapping[str, tuple[int | None, int]], test: tuple[int, ...]
) -> dict[str, dict[str, int]]:
    """`Dataset.published_counts` of a share, from what `Tree` says of train and test."""
    counts = {"test": _counts(*test)}
    if pct in train:
        counts["train"] = _counts(*train[pct])
    return counts


def _counts(*numbers: int | None) -> dict[str, int]:
    if len(numbers) == 1:
        return {"total": numbers[0]}
    aligned, conflicting = numbers
    if aligned is None:
        return {"conflicting": conflicting}
    return {"total": aligned + conflicting, "aligned": aligned, "conflicting": conflicting}


def _first_folder(root: Path, *folders: str) -> tuple[str, ...]:
    return tuple(folder for folder in folders if (root / folder).is_dir())[:1]


_CHECKS: Mapping[str, Callable[[int, int], bool]] = {
    "align": lambda label, bias: label == bias,
    "conflict": lambda label, bias: label != bias,
}
