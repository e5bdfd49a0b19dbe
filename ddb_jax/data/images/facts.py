"""What is known of every image of a set beside its pixels, found while it is decoded."""

from collections.abc import Iterable, Sequence, Sized
from typing import NamedTuple

import numpy as np

from ddb_jax.data.images.decode import DecodedImage


class ImageFacts(NamedTuple):
    """Facts of one image; "decoded" is what a model sees: RGB, resized.

    Attributes:
        width: Of the upright image in the file, in pixels.
        height: The same.
        mode: Pillow's mode of the image in the file.
        transparent: Whether some part of it is.
        grey_low: Least value of grey with more than 8 bits; -1 for other images.
        grey_high: Greatest value, likewise.
        low: Least decoded value, 0 to 255.
        high: Greatest decoded value.
        one_colour: Whether all decoded pixels are equal.
        deviation: Standard deviation of the decoded values over the pixels, the largest of the
            three channels'.
        sha256: First 32 digits of the hash of the decoded pixels: equal where two images are.
    """

    width: int
    height: int
    mode: str
    transparent: bool
    grey_low: int
    grey_high: int
    low: int
    high: int
    one_colour: bool
    deviation: float
    sha256: str


class Image(NamedTuple):
    """An image of a set.

    Attributes:
        split: "train", "validation" or "test".
        index: Its position there.
        path: Its file or id.
        label: Its class.
        facts: What is known of it.
    """

    split: str
    index: int
    path: str
    label: int
    facts: ImageFacts


class Finding(NamedTuple):
    """Something that a person should look at.

    Attributes:
        kind: A short name, as in the column `findings` of data_check.csv.
        sentence: What was found, and what can be done.
        images: The images it is about; of copies, one after the other.
        refused: Whether a run stops for it.
    """

    kind: str
    sentence: str
    images: tuple[Image, ...]
    refused: bool = False


def number_of(images: Sized) -> str:
    """ "1 image", "2,000 images"."""
    return f"{len(images):,} image{'' if len(images) == 1 else 's'}"


def facts_of(images: Sequence[DecodedImage]) -> tuple[ImageFacts, ...]:
    """The facts of decoded images.

    They are taken from the histograms: over the pixels they would take as long as decoding.
    """
    if not images:
        return ()
    counts = np.array([image.histogram for image in images]).reshape(-1, 3, 256)
    values, num_pixels = np.arange(256.0), counts[0, 0].sum()
    mean = counts @ values / num_pixels
    variance = np.maximum(counts @ values**2 / num_pixels - mean**2, 0.0)
    present = (counts > 0).any(1)
    return tuple(
        ImageFacts(
            image.width,
            image.height,
            image.mode,
            image.transparent,
            image.grey_low,
            image.grey_high,
            low=int(low),
            high=int(high),
            one_colour=bool(one_colour),
            deviation=round(float(deviation), 2),
            sha256=image.sha256,
        )
        for image, low, high, one_colour, deviation in zip(
            images,
            present.argmax(1),
            255 - present[:, ::-1].argmax(1),
            ((counts > 0).sum(2) == 1).all(1),
            np.sqrt(variance).max(1),
            strict=True,
        )
    )


def grey_bits_in_use(images: Iterable[ImageFacts]) -> int:
    """Bits that hold the greatest value of all deep grey images: 8 to 16, 16 where there is none.

    One number for a set: scaling every image by its own range would lose which is the darker one.
    """
    highest = max((image.grey_high for image in images), default=-1)
    return 16 if highest < 0 else max(8, highest.bit_length())
