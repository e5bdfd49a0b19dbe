"""Image files as people have them, of every mode, suffix and damage, and whether each one counts.

What a file is worth follows from the documented rules alone: a usual suffix makes it an image,
texts and raw files are never opened, the first bytes tell what all others are.
"""

import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from PIL import Image

MODES = {
    "png": ("RGB", "L", "LA", "P", "RGBA", "I;16", "1"),
    "jpeg": ("RGB", "L", "CMYK"),
    "gif": ("L", "P"),
    "bmp": ("RGB", "L", "1"),
    "tiff": ("RGB", "L", "P", "RGBA", "I;16", "CMYK", "1"),
    "webp": ("RGB", "RGBA"),
    "ppm": ("RGB", "L"),
}
USUAL = {
    "png": ".png",
    "jpeg": ".jpg",
    "gif": ".gif",
    "bmp": ".bmp",
    "tiff": ".tif",
    "webp": ".webp",
    "ppm": ".ppm",
}
OTHER_SUFFIXES = (".jpg", ".PNG", ".JPEG", ".jpe", ".jfif", "", ".image", ".heic", ".png?v=2")
NOT_OPENED = (".txt", ".csv", ".json", ".CR2", ".dng")
# What is wrong with a file -> its bytes; None: made below from the picture.
DAMAGE = {
    "empty": b"",
    "text": b"hello, this is a text\n",
    "page": b"<!DOCTYPE html><html><body>404</body></html>",
    "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
    "heic": b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(200),
    "noise": b"\x00\xfe\x01" + bytes(range(256)),
    "cut": None,
    "tiny": None,
    "float": None,
}
NAMES = ("x", "k\u00fche", "ku\u0308he", "\U0001f431", "a b", " a", "a,b;c", "it's", '"q"', "#%20")
BAD_NAMES = ("line\nbreak", "ret\rurn", "tab\t", "bell\x07", "para\u2029graph")


@dataclass(frozen=True)
class Picture:
    """One file: what is written, and what it is worth: "counts", "broken" or "left out"."""

    name: str
    mode: str
    format: str
    size: tuple[int, int]
    damage: str = ""

    @property
    def suffix(self) -> str:
        return os.path.splitext(self.name)[1].lower()

    @property
    def worth(self) -> str:
        if self.name.startswith(".") or self.suffix in {s.lower() for s in NOT_OPENED}:
            return "left out"
        if not self.damage:
            return "counts"
        by_suffix = self.suffix in (
            ".png",
            ".jpg",
            ".jpeg",
            ".gif",
            ".bmp",
            ".tif",
            ".webp",
            ".ppm",
        )
        return "broken" if by_suffix or self.damage in ("cut", "tiny", "float") else "left out"

    def write(self, folder: Path, number: int) -> None:
        """The file; every number has other pixels."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / self.name).write_bytes(self._content(number))

    def _content(self, number: int) -> bytes:
        if DAMAGE.get(self.damage) is not None:
            return DAMAGE[self.damage]
        size = (2, 3) if self.damage == "tiny" else self.size
        rng = np.random.default_rng(number)
        pixels = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
        mode, form = ("F", "tiff") if self.damage == "float" else (self.mode, self.format)
        if mode == "I;16":
            image = Image.fromarray(rng.integers(0, 1 << 16, size[::-1], dtype=np.uint16))
        else:
            image = pixels.convert(mode)
        file = io.BytesIO()
        image.save(file, form)
        content = file.getvalue()
        return content[: 3 * len(content) // 5] if self.damage == "cut" else content


def good_pictures() -> st.SearchStrategy[Picture]:
    """Any mode in any format that holds it; the suffix that goes with it."""
    kinds = [(mode, form) for form, modes in MODES.items() for mode in modes]
    sides = st.integers(6, 40)
    return st.builds(
        lambda kind, stem, size: Picture(f"{stem}{USUAL[kind[1]]}", *kind, size),
        st.sampled_from(kinds),
        st.sampled_from(NAMES),
        st.tuples(sides, sides),
    )


@st.composite
def odd_pictures(draw: st.DrawFn) -> Picture:
    """One with a damage, an unusual suffix or an odd name."""
    picture = draw(good_pictures())
    what = draw(st.sampled_from(("damage", "suffix", "not opened", "damaged suffix", "hidden")))
    stem, suffix = os.path.splitext(picture.name)
    if what == "hidden":
        return _named(picture, f".{stem}{suffix}")
    damage = draw(st.sampled_from(sorted(DAMAGE))) if "damage" in what else ""
    if what in ("suffix", "damaged suffix"):
        suffix = draw(st.sampled_from(OTHER_SUFFIXES))
    if what == "not opened":
        suffix = draw(st.sampled_from(NOT_OPENED))
    return _named(picture, stem + suffix, damage)


def numbered(picture: Picture, number: int) -> Picture:
    """The picture with a name of its own."""
    dot = "." if picture.name.startswith(".") else ""
    return _named(picture, f"{dot}{number:03d}{picture.name.removeprefix('.')}", picture.damage)


def _named(picture: Picture, name: str, damage: str = "") -> Picture:
    return Picture(name, picture.mode, picture.format, picture.size, damage)
