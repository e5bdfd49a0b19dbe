"""Contact sheets: rows of small images with a name beside each row, as one PNG."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ddb_jax.runtime.files import write_atomically
from ddb_jax.stages.common.picture_names import font

TEXT = 11  # height of a name in pixels


def grid_image(rows: Sequence[np.ndarray], names: Sequence[str], side: int = 48) -> Image.Image:
    """Draw one row of images for each name.

    Args:
        rows: For each name uint8 [N, H, W, 3]; N may differ and may be 0.
        names: Written to the left of the rows; `picture_names` makes them drawable.
        side: Size in pixels at which an image is drawn.
    """
    gap, letters = 2, font(TEXT)
    margin = 12 + math.ceil(max(letters.getlength(name) for name in names))
    width = margin + max(max((len(row) for row in rows), default=0), 1) * (side + gap)
    sheet = Image.new("RGB", (width, len(rows) * (side + gap)), "white")
    draw = ImageDraw.Draw(sheet)
    for r, (row, name) in enumerate(zip(rows, names, strict=True)):
        draw.text((4, r * (side + gap) + side // 2 - 6), name, fill="black", font=letters)
        for column, image in enumerate(row):
            tile = Image.fromarray(np.asarray(image)).resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(tile, (margin + column * (side + gap), r * (side + gap)))
    return sheet


def save_grid(path: Path, rows: Sequence[np.ndarray], names: Sequence[str]) -> None:
    """Write `grid_image` as a PNG."""
    buffer = io.BytesIO()
    grid_image(rows, names).save(buffer, format="png")
    write_atomically(path, buffer.getvalue())
