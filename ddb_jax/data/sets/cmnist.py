"""Coloured MNIST, built from MNIST's idx files as "Learning from Failure" builds it.

Each digit has a colour; most training images take the colour of their class, and in the test split
colour says nothing about the class (Nam et al., NeurIPS 2020, arXiv 2007.02561, appendix A.1). The
counts are those of the set that Lee et al. published (NeurIPS 2021, arXiv 2107.01372).
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from ddb_jax.data.images.decode import resize_all
from ddb_jax.data.sets.bias_assignment import apportion, assign_bias, check_share
from ddb_jax.data.sets.digits import PALETTE
from ddb_jax.data.source import ArraySource, Dataset

NUM_CLASSES = 10
SIDE = 28

# Standard deviation per image and channel of the colour, where 1 is full intensity: severities 1 to
# 5 of LfF's code, whose sets go up to 4. The smaller, the easier the colour is to learn.
COLOUR_JITTER = (0.05, 0.02, 0.01, 0.005, 0.002)

# Images of the published training and test splits whose colour is not that of their class.
PUBLISHED_CONFLICTING = {0.005: 271, 0.01: 546, 0.02: 1096, 0.05: 2746}
PUBLISHED_TEST_CONFLICTING = 8994
PUBLISHED_SIZES = {"train": 55_000, "validation": 5_000, "test": 10_000}

_IMAGES_MAGIC, _LABELS_MAGIC = 0x803, 0x801


def load_cmnist(
    root: Path,
    image_size: int = SIDE,
    *,
    conflicting_share: float = 0.005,
    counts: str = "published",
    severity: int = 4,
    validation_size: int = 5_000,
    seed: int = 0,
) -> Dataset:
    """The data set; everything but the digits is drawn from `seed`.

    Known: 55,000 training images, the four published shares with their counts, the even division
    over the nine other colours, the jitter. The published counts of conflicting training images are
    exactly the share of every class rounded down, over the first 55,000 images; so the last 5,000
    are the validation split here. LfF drew its ten colours uniformly at random and keeps them in a
    binary file; ours are ten pure colours, at least 0.5 apart in one channel. The published test
    split has 1,006 aligned images by a rule that is not known; here they are apportioned over the
    classes. The validation split has the share of the training split (ours).

    Args:
        root: Folder with MNIST's four idx files, gzipped or not.
        image_size: Side in pixels; the grey digits are resized bilinearly, then coloured.
        conflicting_share: Share of training and validation images whose colour is not that of their
            class; 0.9 is no bias.
        counts: "published" rounds the share down in every class, and has 8,994 conflicting images
            among 10,000 of the test split. "exact_share" rounds over the split, so that 0.005 of
            55,000 is 275, and its test colours are even.
        severity: 1 to 5, row of COLOUR_JITTER.
        validation_size: Last training images, which become the validation split.
        seed: Seed of colours and jitter. The jitter of an image depends on nothing else.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is damaged or another one, or an argument is out of range.
    """
    _check_settings(image_size, conflicting_share, counts, severity)
    grey, labels = zip(*(read_mnist(root, part) for part in ("train", "t10k")), strict=True)
    if not 0 < validation_size < len(labels[0]):
        raise ValueError(
            f"validation_size is {validation_size}, it must be between 1 and one less than the"
            f" {len(labels[0]):,} training images."
        )
    cut = len(labels[0]) - validation_size
    sizes = {"train": cut, "validation": validation_size, "test": len(labels[1])}
    published = counts == "published" and sizes == PUBLISHED_SIZES

    *colour_rngs, train_jitter, test_jitter = np.random.default_rng(seed).spawn(5)
    jitter = [
        rng.normal(0.0, COLOUR_JITTER[severity - 1], (len(of_part), 3)).astype(np.float32)
        for rng, of_part in zip((train_jitter, test_jitter), labels, strict=True)
    ]
    splits = {"train": (0, 0, cut), "validation": (0, cut, None), "test": (1, 0, None)}
    sources = {}
    for rng, (split, (part, start, stop)) in zip(colour_rngs, splits.items(), strict=True):
        of_split = slice(start, stop)
        classes = labels[part][of_split]
        if split == "test":
            aligned = _aligned_in_test(classes) if published else None
        else:
            aligned = _aligned(classes, conflicting_share, counts)
        bias = assign_bias(classes, aligned, rng, NUM_CLASSES)
        colours = np.float32(list(PALETTE.values()))[bias] + jitter[part][of_split]
        folder = "mnist/test" if split == "test" else "mnist/train"
        sources[split] = ArraySource(
            colour_images(resize_all(grey[part][of_split], image_size), colours.clip(0.0, 1.0)),
            classes,
            bias,
            tuple(f"{folder}/{i:06d}" for i in range(start, start + len(classes))),
        )
    return Dataset(
        name="cmnist",
        class_names=tuple(str(digit) for digit in range(NUM_CLASSES)),
        bias_names=tuple(PALETTE),
        notes=_describe(validation_size, severity, conflicting_share),
        published_counts=_published_counts(conflicting_share) if published else {},
        **sources,
    )


def colour_images(grey: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Grey uint8 [N, H, W] times colours float [N, 3] of 0..1, on black -> uint8 [N, H, W, 3]."""
    images = np.empty((*grey.shape, 3), np.uint8)
    for start in range(0, len(grey), 2048):  # so that the floats never fill the memory
        part = slice(start, start + 2048)
        product = grey[part, ..., None] * colours[part, None, None, :].astype(np.float32)
        images[part] = np.rint(product, out=product)
    return images


def read_mnist(root: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, 28, 28] and labels int32 [N] of "train" or "t10k".

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is damaged, is another one, or the two do not belong together.
    """
    images_path, images = _read_idx(root, f"{part}-images", "idx3-ubyte", _IMAGES_MAGIC)
    labels_path, labels = _read_idx(root, f"{part}-labels", "idx1-ubyte", _LABELS_MAGIC)
    if images.shape[1:] != (SIDE, SIDE):
        raise ValueError(f"{images_path} has images of {images.shape[1:]}, MNIST's are 28 by 28.")
    if len(images) != len(labels):
        raise ValueError(
            f"{images_path} has {len(images):,} images but {labels_path} {len(labels):,} labels."
        )
    if labels.size and labels.max() >= NUM_CLASSES:
        raise ValueError(f"{labels_path} has a label {labels.max()}, MNIST's are 0 to 9.")
    return images, labels.astype(np.int32)


def _check_settings(image_size: int, conflicting_share: float, counts: str, severity: int) -> None:
    check_share(conflicting_share)
    if counts not in ("published", "exact_share"):
        raise ValueError(f"counts is {counts!r}, it must be published or exact_share.")
    if not 1 <= severity <= len(COLOUR_JITTER):
        raise ValueError(f"severity is {severity}, it must be between 1 and {len(COLOUR_JITTER)}.")
    if image_size < 1:
        raise ValueError(f"image_size is {image_size}, it must be at least 1.")


def _read_idx(root: Path, stem: str, kind: str, magic: int) -> tuple[Path, np.ndarray]:
    """The file and its uint8 array: magic, one big-endian int32 per dimension, then the bytes."""
    candidates = [root / f"{stem}{dot}{kind}{end}" for dot in "-." for end in ("", ".gz")]
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"there is no {stem}-{kind} or {stem}-{kind}.gz in {root};"
            " `python -m ddb_jax.data.download mnist` gets it."
        )
    ndim = magic & 0xFF
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            start = file.read(4 + 4 * ndim)
            header = np.frombuffer(start.ljust(4 + 4 * ndim, b"\0"), ">i4")
            if header[0] != magic or np.any(header < 0):
                raise ValueError(f"{path} is not MNIST's {stem}-{kind}; download it again.")
            shape = tuple(int(n) for n in header[1:])
            size = math.prod(shape)
            # One byte more than announced is enough to know that there are too many.
            content = file.read(size + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is damaged ({error}); download it again.") from None
    if len(content) != size:
        there_is = "more" if len(content) > size else f"{len(content):,}"
        raise ValueError(f"{path} announces {size:,} bytes but has {there_is}; download it again.")
    return path, np.frombuffer(content, np.uint8).reshape(shape)


def _aligned(labels: np.ndarray, share: float, counts: str) -> np.ndarray:
    """Aligned images of every class at this share of conflicting ones."""
    sizes = np.bincount(labels, minlength=NUM_CLASSES)
    if counts == "exact_share":
        return sizes - apportion(sizes, share)
    # The tolerance is for shares like 0.29, whose hundredfold is 28.999999999999996.
    return sizes - np.floor(sizes * share + 1e-9).astype(int)


def _aligned_in_test(labels: np.ndarray) -> np.ndarray:
    """Aligned images of every class in the published test split."""
    share = 1 - PUBLISHED_TEST_CONFLICTING / len(labels)
    return apportion(np.bincount(labels, minlength=NUM_CLASSES), share)


def _describe(validation_size: int, severity: int, conflicting_share: float) -> tuple[str, ...]:
    """Notes on how the set was made."""
    return (
        f"MNIST has no validation split: the last {validation_size:,} training images serve.",
        f"The colours are our own ten with LfF's jitter of severity {severity}; a share of"
        f" {conflicting_share:g} of the training and validation images conflicts with its"
        " class, spread evenly over the nine other colours.",
    )


def _published_counts(share: float) -> dict[str, dict[str, int]]:
    """The counts known at this share, as `Dataset.published_counts` has them."""
    conflicting = {"test": PUBLISHED_TEST_CONFLICTING}
    if share in PUBLISHED_CONFLICTING:
        conflicting["train"] = PUBLISHED_CONFLICTING[share]
    return {
        split: {
            "total": PUBLISHED_SIZES[split],
            "aligned": PUBLISHED_SIZES[split] - number,
            "conflicting": number,
        }
        for split, number in conflicting.items()
    }
