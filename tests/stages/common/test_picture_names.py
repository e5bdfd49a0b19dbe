"""Names in any script can be told in a picture, or by its legend."""

import io

import numpy as np
import pytest
from PIL import Image

from ddb_jax.stages.common.contact_sheet import grid_image, save_grid
from ddb_jax.stages.common.picture_names import drawable, font, legend, picture_names
from ddb_jax.stages.report import figures

NAMES = {
    "cat": "cat",
    "pole vaulting": "pole vaulting",
    "caf\u00e9": "caf\u00e9",
    "cafe\u0301": "caf\u00e9",  # decomposed, as macOS names files
    "\u03b1\u03b2\u03b3": "\u03b1\u03b2\u03b3",  # Greek
    "\u043a\u043e\u0448\u043a\u0430": "\u043a\u043e\u0448\u043a\u0430",  # Cyrillic
    "\u2264 5 \u00b5m": "\u2264 5 \u00b5m",
    '<b>cat<b> & "dog"': '<b>cat<b> & "dog"',
    "$x_1$": "$x_1$",
    "\u732b": "class N",  # Chinese
    "\u732b \U0001f431": "class N",  # and an emoji
    "\u72d7 dog": "class N (dog)",
    "\U0001f431 cat": "\U0001f431 cat",  # an emoji that the font has
    "\U0001f9a5 sloth": "class N (sloth)",  # and one that it has not
    "na\u00efve \u65e5\u672c": "class N (naive)",
    "\u0642\u0637\u0629": "class N",  # Arabic: the font has the letters, and does not join them
    "\u05d7\u05ea\u05d5\u05dc": "class N",  # Hebrew, from right to left
    "\u0915\u0941\u0924\u094d\u0924\u093e": "class N",  # Devanagari
    "\uace0\uc591\uc774": "class N",  # Korean
    "a\nb": "class N (a b)",
    "a\u200bb": "class N (ab)",  # with a space of no width
    " ": "class N",
    "_cat": "class N (_cat)",  # matplotlib's legends would leave it out
    "x" * 32: "x" * 32,
    "x" * 33: "class N (" + "x" * 16 + "...)",
    "international airport terminal two": "class N (international ai...)",
}


def test_what_is_drawn():
    expected = [shown.replace("N", str(i)) for i, shown in enumerate(NAMES.values())]
    assert list(picture_names(list(NAMES))) == expected
    assert all(map(drawable, picture_names(list(NAMES))))


def test_long_names_that_begin_alike_stay_apart():
    shown = picture_names(
        ["a very long name of a class, first", "a very long name of a class, two"]
    )
    assert shown[0] == "class 0 (a very long name...)"
    assert len(set(shown)) == 2


def test_the_legend_says_what_is_meant():
    assert legend(["cat", "dog"]) == ""
    assert legend(["cat", "\u732b", "\u0642\u0637\u0629"]) == (
        " In the picture class 1 is \u2068\u732b\u2069; class 2 is \u2068\u0642\u0637\u0629\u2069."
    )
    assert legend(["\u732b"], "bias") == " In the picture bias 0 is \u2068\u732b\u2069."
    assert legend(["pole vaulting it is"], longest=14) == (
        " In the picture class 0 (pole va...) is \u2068pole vaulting it is\u2069."
    )


def test_a_sheet_has_room_for_its_names(tmp_path):
    black = np.zeros((2, 4, 4, 3), np.uint8)
    names = picture_names(["W" * 32, "\u732b"])
    save_grid(tmp_path / "sheet.png", [black, black], names)
    picture = np.asarray(Image.open(tmp_path / "sheet.png").convert("L"))
    width = font(11).getlength(names[0])
    left = picture[:48, : picture.shape[1] - 100]  # two images of 48 pixels with gaps lie right
    inked = np.flatnonzero((left < 128).any(0))
    assert 4 <= inked[0] <= 8
    assert width - 4 <= inked[-1] <= width + 6
    assert picture[50:98, : left.shape[1]].min() < 128  # "class 1" is written


def test_the_sheet_draws_the_glyph_and_not_a_box():
    """Each of these letters looks otherwise; boxes would all be alike."""
    letters = [chr(c) for c in (*range(0x3B1, 0x3BA), *range(0x430, 0x43A), 0x2264, 0xE9)]
    empty = np.zeros((0, 4, 4, 3), np.uint8)
    pictures = {grid_image([empty], [letter + "    "]).tobytes() for letter in letters}
    assert len(pictures) == len(letters)


@pytest.mark.parametrize("names", [list(NAMES)[:8], list(NAMES)[9:19]])
def test_figures_draw_every_name_without_a_warning(names):
    shown = picture_names(names)  # a missing glyph is a warning of matplotlib, and an error here
    points = np.zeros((len(names), 2))
    png = figures.scatter_grid({"erm": points}, {"class": (np.arange(len(names)), shown)})
    assert Image.open(io.BytesIO(png)).size[0] > 400


def test_matplotlib_would_warn_of_a_missing_glyph():
    with pytest.warns(UserWarning, match="missing from font"):
        figures.scatter_grid({"erm": np.zeros((1, 2))}, {"class": (np.zeros(1), ("\u732b",))})
