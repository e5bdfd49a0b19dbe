"""Names as they can be drawn into a picture, by the glyphs that the font has.

A name in another script, an emoji or a very long name is drawn as "class 3", with what of it is
ASCII, and `legend` says what is meant wherever the picture stands on a page.
"""

import functools
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.ft2font import FT2Font
from PIL import ImageFont

LONGEST = 32  # characters that are drawn of a name
# Letters from right to left, which need joining and ordering that the drawing does not do.
RIGHT_TO_LEFT = ("R", "AL", "AN")
# Control and format characters, marks that go over the letter before them, and what is no letter.
UNDRAWN = ("Cc", "Cf", "Cs", "Co", "Cn", "Mn", "Me", "Zl", "Zp")


@functools.cache
def font_file() -> Path:
    """The font of all pictures, which comes with matplotlib: Latin, Greek, Cyrillic and symbols."""
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """The same for Pillow, `size` pixels high."""
    return ImageFont.truetype(str(font_file()), size)


@functools.cache
def _glyphs() -> frozenset[int]:
    return frozenset(FT2Font(str(font_file())).get_charmap())


def drawable(text: str) -> bool:
    """Whether the font has a glyph for every character, and drawing them in a row is right."""
    return all(
        ord(c) in _glyphs()
        and unicodedata.bidirectional(c) not in RIGHT_TO_LEFT
        and unicodedata.category(c) not in UNDRAWN
        for c in unicodedata.normalize("NFC", text)
    )


def picture_names(
    names: Sequence[str], kind: str = "class", longest: int = LONGEST
) -> tuple[str, ...]:
    """What is drawn in the place of each name: itself, or its number and what of it is ASCII.

    Args:
        names: In the order of their numbers, from 0.
        kind: What they are names of.
        longest: Characters; longer names are drawn by their number.
    """
    shown = []
    for number, name in enumerate(names):
        plain = unicodedata.normalize("NFC", name)
        # matplotlib leaves names that begin with "_" out of its legends.
        told = plain.strip() and not plain.startswith("_") and drawable(plain)
        if told and len(plain) <= longest:
            shown.append(plain)
            continue
        ascii_form = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
        ascii_form = " ".join("".join(c if c.isprintable() else " " for c in ascii_form).split())
        if len(ascii_form) > longest // 2:
            ascii_form = ascii_form[: longest // 2] + "..."
        partly = any(c.isalnum() for c in ascii_form)
        shown.append(f"{kind} {number} ({ascii_form})" if partly else f"{kind} {number}")
    return tuple(shown)


def legend(names: Sequence[str], kind: str = "class", longest: int = LONGEST) -> str:
    """A sentence that says what `picture_names` stand for, beginning with a space; "" for none."""
    shown = picture_names(names, kind, longest)
    # Isolated (U+2068, U+2069): a name from right to left must not turn the sentence around.
    meant = [
        f"{drawn} is \u2068{' '.join(name.split())}\u2069"
        for drawn, name in zip(shown, names, strict=True)
        if drawn != unicodedata.normalize("NFC", name)
    ]
    return f" In the picture {'; '.join(meant)}." if meant else ""
