"""Coloured digits: scikit-learn's handwritten digits, whose colour predicts the class in training.

The digits are real (UCI ML hand-written digits, 1,797 of 8x8 pixels) and ship with scikit-learn.
The colouring follows the Coloured MNIST of debiasing work (Nam et al., "Learning from Failure",
arXiv 2007.02561): ten colours, one per class, jittered per image; a small, exact share of training
images takes one of the nine other colours, and test colours are independent of the class.
"""

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from ddb_jax.data.sets.bias_assignment import apportion, assign_bias
from ddb_jax.data.source import ArraySource, Dataset, stratified_split

# The colour of class i is the i-th; (red, green, blue) of 1. Two differ by at least 0.5 somewhere.
PALETTE: dict[str, tuple[float, float, float]] = {
    "red": (1.0, 0.0, 0.0),
    "orange": (1.0, 0.5, 0.0),
    "yellow": (1.0, 1.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "cyan": (0.0, 1.0, 1.0),
    "azure": (0.0, 0.5, 1.0),
    "blue": (0.0, 0.0, 1.0),
    "violet": (0.5, 0.0, 1.0),
    "magenta": (1.0, 0.0, 1.0),
    "white": (1.0, 1.0, 1.0),
}
NUM_CLASSES = 10
MAX_INTENSITY = 16  # of load_digits


def load_coloured_digits(
    image_size: int = 16,
    aligned_share: float = 0.95,
    colour_jitter: float = 0.03,
    validation_share: float = 0.2,
    test_share: float = 0.25,
    seed: int = 0,
    reference_share: float = 0.0,
) -> Dataset:
    """The data set, drawn from `seed` alone.

    Which digit is in which split, and the jitter of each, do not depend on `aligned_share`. But
    for rounding, an image that conflicts at one share conflicts at every smaller one, in the same
    colour.

    Args:
        image_size: Side in pixels; the 8x8 digits are enlarged bilinearly.
        aligned_share: Share of training and validation images in the colour of their class. The
            others are spread evenly over the nine other colours, so that 0.1 is no bias.
        colour_jitter: Standard deviation per image and channel, where 1 is full intensity.
        validation_share: Share of the images outside the test split.
        test_share: Share of the images outside the reference part.
        seed: Seed of splits, colours and jitter.
        reference_share: Share of all images that is in no split, and is for `captioned_digits`.

    Raises:
        ValueError: A share is out of range.
    """
    if not 0 <= aligned_share <= 1:
        raise ValueError(f"aligned_share is {aligned_share}, it must be between 0 and 1.")
    for name, share in (("validation_share", validation_share), ("test_share", test_share)):
        if not 0 < share < 1:
            raise ValueError(f"{name} is {share}, it must be greater than 0 and less than 1.")
    intensity, labels = load_digits(return_X_y=True)
    labels = labels.astype(np.int32)
    drawn_from, reference = split_off_reference(labels, reference_share, seed)
    rest, test = (drawn_from[i] for i in stratified_split(labels[drawn_from], test_share, seed))
    train, validation = (rest[i] for i in stratified_split(labels[rest], validation_share, seed))

    jitter_rng, *colour_rngs = np.random.default_rng(seed).spawn(4)
    jitter = jitter_rng.normal(0.0, colour_jitter, (len(labels), 3))
    sources = {}
    for split, members, rng in zip(
        ("train", "validation", "test"), (train, validation, test), colour_rngs, strict=True
    ):
        share = None if split == "test" else aligned_share
        bias = assign_colours(labels[members], share, rng)
        colours = np.array(list(PALETTE.values()))[bias] + jitter[members]
        sources[split] = ArraySource(
            paint(enlarge(intensity[members], image_size), colours.clip(0.0, 1.0)),
            labels[members],
            bias,
            tuple(f"digits/{i:06d}" for i in members),
        )
    set_aside = (
        f"{len(reference):,} images of digits are in no split: they are the captioned reference"
        " set.",
    )
    return Dataset(
        name="digits",
        class_names=tuple(str(digit) for digit in range(NUM_CLASSES)),
        bias_names=tuple(PALETTE),
        notes=(
            *(set_aside if len(reference) else ()),
            f"digits has no splits of its own: {test_share:.0%} of the images, stratified by class"
            f" and drawn with seed {seed}, are the test split and {validation_share:.0%} of the"
            " others the validation split.",
            f"In training and validation a share of {aligned_share:g} of the images has the colour"
            " of its class; test colours are independent of the class.",
        ),
        **sources,
    )


def split_off_reference(
    labels: np.ndarray, reference_share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the images that the splits are drawn from, and of the reference part.

    Args:
        labels: int [N].
        reference_share: Share of every class; 0 leaves all images to the splits.
        seed: Seed of the draw.

    Raises:
        ValueError: The share is below 0 or not less than 1, or leaves a part too small.
    """
    if not reference_share:
        return np.arange(len(labels)), np.arange(0)
    if not 0 < reference_share < 1:
        raise ValueError(
            f"reference_share is {reference_share}, it must be at least 0 and less than 1."
        )
    return stratified_split(labels, reference_share, seed)


def assign_colours(
    labels: np.ndarray, aligned_share: float | None, rng: np.random.Generator
) -> np.ndarray:
    """Colour index of every image, int32 [N], with exact counts.

    Args:
        labels: int [N], 0 to 9.
        aligned_share: Share per class that takes the colour of its class, rounded so that the
            total is right; the class's others divide over the nine other colours, no two counts
            more than one apart. None divides each class over all ten colours in this way.
        rng: Chooses which image takes which colour.
    """
    sizes = np.bincount(labels, minlength=NUM_CLASSES)
    aligned = None if aligned_share is None else apportion(sizes, aligned_share)
    return assign_bias(labels, aligned, rng, NUM_CLASSES)


def enlarge(intensity: np.ndarray, image_size: int) -> np.ndarray:
    """[N, 64] of 0..16 -> float32 [N, image_size, image_size] of 0..1."""
    digits = (intensity.reshape(-1, 8, 8) / MAX_INTENSITY).astype(np.float32)
    size = (image_size, image_size)
    resized = [Image.fromarray(x).resize(size, Image.Resampling.BILINEAR) for x in digits]
    return np.stack([np.asarray(x) for x in resized])


def paint(digits: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Digits [N, H, W] times colours [N, 3], both 0..1, on black -> uint8 [N, H, W, 3]."""
    images = digits[..., None] * colours[:, None, None, :]
    return np.rint(images * 255.0).clip(0, 255).astype(np.uint8)
