"""Sheets of drawn ice for the corruption "frost", which takes photographs that are not shipped.

Our own: needles of ice with side branches at 60 degrees, drawn over smooth noise. A sheet has about
the size that the photographs have where CIFAR-10-C takes its pieces.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

NUM_SHEETS = 5
SIDE = 192
_OVERSAMPLING = 4
_TINT = np.float32([0.86, 0.95, 1.0])


def frost_crops(size: tuple[int, int], rngs: Sequence[np.random.Generator]) -> np.ndarray:
    """A random piece of a random sheet for each generator: float32 [B, height, width, 3] of 0..1.

    Args:
        size: (height, width), at most SIDE.
        rngs: One generator per piece.
    """
    height, width = size
    pieces = np.empty((len(rngs), height, width, 3), np.float32)
    for piece, rng in zip(pieces, rngs, strict=True):
        sheet = _sheet(int(rng.integers(NUM_SHEETS)))
        y, x = rng.integers(0, SIDE - height + 1), rng.integers(0, SIDE - width + 1)
        piece[:] = sheet[y : y + height, x : x + width]
    return pieces


@cache
def _sheet(number: int) -> np.ndarray:
    """float32 [SIDE, SIDE, 3] of 0..1; the same at every call."""
    rng = np.random.default_rng(number)
    ice = 0.35 * _smooth_noise(rng, 24) + 0.2 * _smooth_noise(rng, 6) + 0.15 * _smooth_noise(rng, 1)
    side = SIDE * _OVERSAMPLING
    canvas = Image.new("L", (side, side))
    draw = ImageDraw.Draw(canvas)
    for _ in range(60):
        start = rng.uniform(-0.1 * side, 1.1 * side, 2)
        _draw_needle(draw, rng, start, rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.5) * side, 2)
    needles = np.asarray(canvas.reduce(_OVERSAMPLING), np.float32) / 255.0
    ice = (ice + 0.75 * needles + 0.3 * ndimage.gaussian_filter(needles, 2)).clip(0, 1)
    return ice[..., None] * _TINT


def _smooth_noise(rng: np.random.Generator, sigma: float) -> np.ndarray:
    """Blurred noise [SIDE, SIDE], stretched to 0..1."""
    noise = ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), sigma, mode="wrap")
    return ((noise - noise.min()) / np.ptp(noise)).astype(np.float32)


def _draw_needle(
    draw: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    start: np.ndarray,
    angle: float,
    length: float,
    branchings: int,
) -> None:
    """A line that ends thin, and from it shorter ones at 60 degrees, `branchings` levels deep."""
    direction = np.array([np.cos(angle), np.sin(angle)])
    brightness = int(rng.uniform(90, 255))
    middle, end = start + 0.6 * length * direction, start + length * direction
    draw.line([*start, *middle], brightness, width=max(2, round(length / 25)))
    draw.line([*middle, *end], brightness, width=max(1, round(length / 60)))
    if branchings == 0 or length < 20:
        return
    for share in np.arange(0.1, 0.95, 0.12):
        for turn in (-np.pi / 3, np.pi / 3):
            shorter = length * rng.uniform(0.15, 0.4) * (1 - 0.7 * share)
            _draw_needle(
                draw, rng, start + share * length * direction, angle + turn, shorter, branchings - 1
            )
