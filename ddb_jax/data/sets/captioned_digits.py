"""Coloured digits with sentences: the reference set that stands in for a large captioned one.

The digits are those that `load_coloured_digits` keeps out of training, validation and test; each
comes in every colour, so that colour and class are independent, unlike in a biased training set.
"""

from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits

from ddb_jax.data.sets.digits import PALETTE, enlarge, paint, split_off_reference

NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SENTENCES = (
    "{a} {colour} {digit} on black",
    "{a} {colour} {digit} on a black background",
    "the digit {digit} in {colour}",
    "the digit {digit} drawn in {colour} on black",
    "a handwritten {digit} in {colour}",
    "a handwritten {colour} {digit} on black",
)
# True of every image and specific to no class, in words that no other sentence uses: what a
# captioner writes when it misses the point, and what a text filter should drop.
VAGUE_SENTENCES = (
    "a bright shape in the dark",
    "some strokes of paint",
    "a glowing curve at night",
    "a blurred symbol",
    "an abstract picture of few pixels",
    "a neon sign",
    "a scribble by a child",
    "light on a screen",
)


class CaptionedDigits(NamedTuple):
    """Images and what they show, digit by digit and each in the order of the palette.

    Attributes:
        images: uint8 [R, S, S, 3].
        captions: R sentences.
        digits: int32 [R], the class.
        colours: int32 [R], position in PALETTE.
        paths: Id of every image, such as "digits/000123/green".
    """

    images: np.ndarray
    captions: tuple[str, ...]
    digits: np.ndarray
    colours: np.ndarray
    paths: tuple[str, ...]


def captioned_digits(
    image_size: int = 16,
    reference_share: float = 0.2,
    colour_jitter: float = 0.03,
    vague_share: float = 0.0,
    seed: int = 0,
) -> CaptionedDigits:
    """Every digit of the reference part in all ten colours, with one sentence each.

    The forms of the sentences take turns, so that every digit and colour has each equally often, to
    within one, except those replaced by a vague sentence.

    Args:
        image_size: Side in pixels.
        reference_share: Share of the 1,797 digits, as given to `load_coloured_digits`.
        colour_jitter: Standard deviation per image and channel, where 1 is full intensity.
        vague_share: Share of the images whose sentence names neither digit nor colour. Without any,
            every caption has a frequent word, and DiffuBias' text filter drops next to none.
        seed: Of the choice of digits, which is that of `load_coloured_digits`, of the jitter and of
            the vague sentences.

    Raises:
        ValueError: A share is out of range, or takes too few digits or too many.
    """
    if not 0 < reference_share < 1:
        raise ValueError(
            f"reference_share is {reference_share}, it must be greater than 0 and less than 1 for a"
            " captioned reference set."
        )
    if not 0 <= vague_share <= 1:
        raise ValueError(f"vague_share is {vague_share}, it must be between 0 and 1.")
    intensity, labels = load_digits(return_X_y=True)
    labels = labels.astype(np.int32)
    _, members = split_off_reference(labels, reference_share, seed)
    # The fifth stream: load_coloured_digits takes the first four.
    rng = np.random.default_rng(seed).spawn(5)[4]
    palette = np.array(list(PALETTE.values()))
    number, num_colours = len(members), len(palette)
    colours = np.tile(palette, (number, 1))
    colours += rng.normal(0.0, colour_jitter, colours.shape)
    digits = np.repeat(enlarge(intensity[members], image_size), num_colours, axis=0)
    seen = np.zeros(len(NUMBER_WORDS), int)
    captions, paths = [], []
    for i, label in zip(members.tolist(), labels[members].tolist(), strict=True):
        for turn, colour in enumerate(PALETTE, seen[label]):
            captions.append(sentence(label, colour, turn))
            paths.append(f"digits/{i:06d}/{colour}")
        seen[label] += 1
    for i in rng.permutation(len(captions))[: round(vague_share * len(captions))]:
        captions[i] = VAGUE_SENTENCES[rng.integers(len(VAGUE_SENTENCES))]
    return CaptionedDigits(
        images=paint(digits, colours.clip(0.0, 1.0)),
        captions=tuple(captions),
        digits=np.repeat(labels[members], num_colours),
        colours=np.tile(np.arange(num_colours, dtype=np.int32), number),
        paths=tuple(paths),
    )


def sentence(label: int, colour: str, turn: int) -> str:
    """A sentence on a digit 0 to 9 of a colour; `turn` chooses its form, over and over again."""
    article = "an" if colour[0] in "aeiou" else "a"
    form = SENTENCES[turn % len(SENTENCES)]
    return form.format(a=article, colour=colour, digit=NUMBER_WORDS[label])
