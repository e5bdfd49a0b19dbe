"""Corrupted CIFAR-10, built from CIFAR-10: most images of a class have the corruption of the class.

The ten pairs of class and corruption, and the counts, are those of the set that Lee et al. made
("Learning Debiased Representation via Disentangled Feature Augmentation", NeurIPS 2021, arXiv
2107.01372) after Nam et al. (NeurIPS 2020, arXiv 2007.02561).
"""

import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np

from ddb_jax.data.images.decode import resize_all
from ddb_jax.data.sets.bias_assignment import apportion, assign_bias, check_share
from ddb_jax.data.sets.cifar10 import CLASS_NAMES, read_cifar10
from ddb_jax.data.sets.corruptions import SEVERITIES, corrupt
from ddb_jax.data.source import ArraySource, Dataset
from ddb_jax.runtime.files import write_atomically

NUM_CLASSES = 10
SIDE = 32

# The corruption of class i is the i-th.
CORRUPTION_OF_CLASS = (
    "snow", "frost", "defocus_blur", "brightness", "contrast",
    "spatter", "frosted_glass_blur", "jpeg", "pixelate", "saturate",
)  # fmt: skip

# Aligned and conflicting training images of the published set, at each share.
PUBLISHED_TRAIN = {
    0.005: (44_832, 228),
    0.01: (44_527, 442),
    0.02: (44_145, 887),
    0.05: (42_820, 2_242),
}
PUBLISHED_TEST = (1_000, 9_000)
FULL_SIZES = (50_000, 10_000)

_PIXELS_VERSION = 1  # increase it when a corruption changes; it invalidates caches


def load_ccifar10(
    root: Path,
    image_size: int = SIDE,
    *,
    conflicting_share: float = 0.005,
    counts: str = "published",
    severity: int = 5,
    validation_share: float = 0.1,
    seed: int = 0,
    cache_dir: Path | None = None,
) -> Dataset:
    """The data set; every corrupted image is a function of `seed`, its place in CIFAR-10, its bias.

    Known: the pairs and the published counts. The published training totals differ from share to
    share (45,060; 44,969; 45,032; 45,062), as if every image had been kept with probability 0.9;
    which ones were is not known, so the draw is ours: classes in proportion, the other images are
    the validation split, with the share of the training split. Within a class the other nine
    corruptions are even, and in the test split all ten. The published severity is not known either:
    LfF's code makes its sets named "Severity1" to "Severity4" with severities 2 to 5.

    Args:
        root: What `read_cifar10` reads.
        image_size: Side in pixels; the corrupted images of 32 are resized bilinearly.
        conflicting_share: Share of training and validation images whose corruption is not that of
            their class; 0.9 is no bias.
        counts: "published" gives the published numbers of images, where the share is one of theirs
            and all of CIFAR-10 is there; otherwise, and with "exact_share", the shares decide.
        severity: Severity of the corruptions, 1 to 5.
        validation_share: Share of CIFAR-10's training images; unused with the published numbers.
        seed: Seed of splits, biases and corruptions.
        cache_dir: Folder for the corrupted images, an .npz per split and settings; None keeps none.

    Raises:
        FileNotFoundError: CIFAR-10 is not in `root`.
        ValueError: A file is damaged, or an argument is out of range.
    """
    _check_settings(image_size, conflicting_share, counts, severity, validation_share)
    cifar10 = read_cifar10(root)
    train_labels, test_labels = cifar10["train_labels"], cifar10["test_labels"]
    full = (len(train_labels), len(test_labels)) == FULL_SIZES
    published = full and counts == "published" and conflicting_share in PUBLISHED_TRAIN

    split_rng, *bias_rngs = np.random.default_rng(seed).spawn(4)
    if published:
        train_size = sum(PUBLISHED_TRAIN[conflicting_share])
        train_conflicting = PUBLISHED_TRAIN[conflicting_share][1] / train_size
    else:
        train_size = round(len(train_labels) * (1 - validation_share))
        train_conflicting = conflicting_share
    train, validation = _split_classes(train_labels, train_size, split_rng)
    splits = {
        "train": ("train", train, train_conflicting),
        "validation": ("train", validation, conflicting_share),
        "test": ("test", np.arange(len(test_labels)), None),
    }
    sources = {}
    for rng, (split, (part, members, share)) in zip(bias_rngs, splits.items(), strict=True):
        labels = cifar10[f"{part}_labels"][members]
        bias = _draw_bias(labels, share, rng)
        positions = cifar10[f"{part}_positions"][members]
        images = _cached(
            cache_dir,
            split,
            {"severity": severity, "seed": seed, "part": part, "version": _PIXELS_VERSION},
            (cifar10[f"{part}_images"][members], labels, bias, positions),
        )
        paths = tuple(f"cifar10/{part}/{i:05d}" for i in positions)
        sources[split] = ArraySource(resize_all(images, image_size), labels, bias, paths)
    notes = _describe(conflicting_share, severity, seed, len(validation), len(train_labels))
    if counts == "published" and not published:
        lacks = "the share is none of the published ones" if full else "this is a part of CIFAR-10"
        notes.append(f"The published counts are impossible, because {lacks}: shares are used.")
    return Dataset(
        name="ccifar10",
        class_names=CLASS_NAMES,
        bias_names=CORRUPTION_OF_CLASS,
        notes=tuple(notes),
        published_counts=_published_counts(conflicting_share) if published else {},
        **sources,
    )


def corrupt_by_bias(
    images: np.ndarray, bias: np.ndarray, severity: int, seed: int, keys: np.ndarray
) -> np.ndarray:
    """Every image under the corruption that its bias names.

    Args:
        images: uint8 [N, H, W, 3].
        bias: int [N], index into CORRUPTION_OF_CLASS.
        severity: 1 to 5.
        seed: At least 0.
        keys: int [N] or [N, K]; see `corrupt`.
    """
    corrupted = np.empty_like(images)
    for value, name in enumerate(CORRUPTION_OF_CLASS):
        members = np.flatnonzero(bias == value)
        corrupted[members] = corrupt(images[members], name, severity, seed, keys[members])
    return corrupted


def _check_settings(
    image_size: int, conflicting_share: float, counts: str, severity: int, validation_share: float
) -> None:
    check_share(conflicting_share)
    if counts not in ("published", "exact_share"):
        raise ValueError(f"counts is {counts!r}, it must be published or exact_share.")
    if severity not in SEVERITIES:
        raise ValueError(f"severity is {severity}, it must be between 1 and {SEVERITIES[-1]}.")
    if not 0 < validation_share < 1:
        raise ValueError(
            f"validation_share is {validation_share}, it must be greater than 0 and less than 1."
        )
    if image_size < 1:
        raise ValueError(f"image_size is {image_size}, it must be at least 1.")


def _split_classes(
    labels: np.ndarray, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Positions, sorted, of `size` images with every class in proportion, and of the others.

    With one seed a smaller size takes some of the images of a larger one.
    """
    first_sizes = apportion(np.bincount(labels, minlength=NUM_CLASSES), size / len(labels))
    first, others = [], []
    for label, number in enumerate(first_sizes):
        members = rng.permutation(np.flatnonzero(labels == label))
        first.append(members[:number])
        others.append(members[number:])
    return np.sort(np.concatenate(first)), np.sort(np.concatenate(others))


def _draw_bias(labels: np.ndarray, share: float | None, rng: np.random.Generator) -> np.ndarray:
    """The corruption of every image, at this share of conflicting ones; None is all ten evenly."""
    sizes = np.bincount(labels, minlength=NUM_CLASSES)
    aligned = None if share is None else sizes - apportion(sizes, share)
    return assign_bias(labels, aligned, rng, NUM_CLASSES)


def _cached(
    cache_dir: Path | None, split: str, settings: dict[str, int | str], arrays: tuple
) -> np.ndarray:
    """The corrupted images of a split, from the cache if they are there."""
    images, labels, bias, positions = arrays

    def make() -> np.ndarray:
        part = np.full_like(positions, settings["part"] == "test")
        keys = np.stack([part, positions], 1)  # test image 0 is not training image 0
        return corrupt_by_bias(images, bias, settings["severity"], settings["seed"], keys)

    if cache_dir is None:
        return make()
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for array in (images, labels, bias, positions):
        digest.update(np.ascontiguousarray(array))
    path = cache_dir / f"ccifar10_{split}_{digest.hexdigest()[:16]}.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            cached = archive["images"]
        if cached.shape == images.shape and cached.dtype == np.uint8:
            return cached
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # missing or damaged: made again
    corrupted = make()
    content = io.BytesIO()
    np.savez(content, images=corrupted, labels=labels, bias=bias, positions=positions)
    cache_dir.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content.getvalue(), every_process=True)
    return corrupted


def _describe(
    conflicting_share: float, severity: int, seed: int, num_validation: int, num_train: int
) -> list[str]:
    """Notes on how the set was made."""
    return [
        f"A share of {conflicting_share:g} of the training and validation images has another"
        f" corruption than that of its class; severity {severity}. The validation split is"
        f" {num_validation:,} of CIFAR-10's {num_train:,} training images, drawn with seed"
        f" {seed}.",
        "Frost is drawn, not photographed as in CIFAR-10-C.",
    ]


def _published_counts(share: float) -> dict[str, dict[str, int]]:
    """The counts known at this share, as `Dataset.published_counts` has them."""
    return {
        split: {"total": aligned + conflicting, "aligned": aligned, "conflicting": conflicting}
        for split, (aligned, conflicting) in (
            ("train", PUBLISHED_TRAIN[share]),
            ("test", PUBLISHED_TEST),
        )
    }
