"""Decodes one image file to uint8 [S, S, 3], or says why it cannot be used.

The rules are those of the loaders used for the published sets (Pillow's `convert("RGB")` and
bilinear resize, as in torchvision), plus three: EXIF rotation is applied, transparent parts show a
background, and of 16-bit grey the upper 8 of the bits in use are kept, where `convert` would clip
to white.
"""

import contextlib
import hashlib
import io
import threading
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageColor, UnidentifiedImageError

from ddb_jax.data.images.file_kinds import HEAD, why_unreadable

STORED = "stored"
RESIZES = ("squash", "center_crop", "none")
# Only these: Pillow hands other formats to other programs (EPS to Ghostscript).
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
MIN_SIDE = 4
MAX_PIXELS = 100_000_000  # 400 MB while it is decoded
_PHOTOMETRIC = 262  # the tag of TIFF that says what zero is

# What turns an image of each EXIF orientation upright; 1 is upright, other values mean nothing.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Rules(NamedTuple):
    """How an image becomes pixels.

    Attributes:
        image_size: Side S of the result.
        resize: "squash" scales both sides to S; "center_crop" scales the central square, as
            scaling the short side to S and cutting out the centre does; "none" takes only images
            that are S x S. Scaling is bilinear and antialiased.
        background: What transparent parts show: a colour's name or "#rrggbb", as Pillow's
            ImageColor; STORED is the colour that the file has under them, often black.
        grey_bits: Of grey with more than 8 bits, how many are in use: 8 to 16.
    """

    image_size: int
    resize: str = "squash"
    background: str = "white"
    grey_bits: int = 16


class DecodedImage(NamedTuple):
    """The pixels of an image, and what is lost in them.

    Attributes:
        pixels: uint8 [S, S, 3], not to be written to.
        histogram: How many pixels have each value, 256 counts for each channel.
        sha256: First 32 digits of the hash of the pixels.
        width: Of the upright image in the file, in pixels.
        height: The same.
        mode: Pillow's mode of the image in the file.
        transparent: Whether some part of it is.
        grey_low: Least value of grey with more than 8 bits; -1 for other images.
        grey_high: Greatest value, likewise.
    """

    pixels: np.ndarray
    histogram: list[int]
    sha256: str
    width: int
    height: int
    mode: str
    transparent: bool
    grey_low: int
    grey_high: int


def check_rules(rules: Rules) -> None:
    """Refuse rules by which no image could be decoded.

    Raises:
        ValueError: The size, the way of resizing or the background is wrong.
    """
    if rules.resize not in RESIZES or rules.image_size < 1:
        raise ValueError(
            f"images cannot be resized to {rules.image_size} pixels by {rules.resize!r}: the size"
            f" must be at least 1, the way one of {', '.join(RESIZES)}."
        )
    if rules.background != STORED:
        _background(rules)


def decode_image(data: bytes | Image.Image, rules: Rules) -> DecodedImage:
    """Decode, turn upright, convert to RGB and resize; may be called from several threads.

    The format is told by the content, not by the name. Palette, grey and CMYK images become RGB;
    of an animation the first frame is taken.

    Args:
        data: A whole file, or an image that is open or in memory.
        rules: See there.

    Raises:
        ValueError: The image cannot be used; the message goes after "PATH: ".
    """
    with _QUIET.held():
        try:
            image = _open(data) if isinstance(data, bytes) else data
        except MemoryError:
            raise  # says nothing about the image
        except Exception as error:  # a damaged file makes Pillow raise almost anything
            raise ValueError(_unreadable(error, data)) from None
        _check_size(image.size, rules)
        try:
            image = _upright(image)
            rgb, transparent, (low, high) = _to_rgb(image, rules)
            resized = _resize(rgb, rules)
        except MemoryError:
            raise
        except Exception as error:
            raise ValueError(_unreadable(error, data)) from None
        pixels = np.asarray(resized)
        return DecodedImage(
            pixels=pixels,
            histogram=resized.histogram(),
            sha256=hashlib.sha256(pixels).hexdigest()[:32],
            width=image.width,
            height=image.height,
            mode=image.mode,
            transparent=transparent,
            grey_low=low,
            grey_high=high,
        )


def _open(data: bytes) -> Image.Image:
    """Reads the header only."""
    return Image.open(io.BytesIO(data), formats=FORMATS)


def _check_size(size: tuple[int, int], rules: Rules) -> None:
    width, height = size
    shown, side = f"is {width:,} x {height:,} pixels", rules.image_size
    if min(size) < MIN_SIDE:
        raise ValueError(f"{shown}, smaller than {MIN_SIDE}")
    if width * height > MAX_PIXELS:
        raise ValueError(f"{shown}, more than the {MAX_PIXELS:,} that are decoded")
    if rules.resize == "none" and size != (side, side):
        raise ValueError(f"{shown} and resizing is off, all images must be {side} x {side}")


def _upright(image: Image.Image) -> Image.Image:
    image.load()  # Pillow turns TIFF images itself, and takes the tag away, when it loads them
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # damaged EXIF data; the picture is whole
        return image
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image, rules: Rules) -> tuple[Image.Image, bool, tuple[int, int]]:
    """The image as RGB, whether parts are transparent, and the range of deep grey or (-1, -1)."""
    if image.mode == "F":
        raise ValueError("its grey values are floating-point numbers")
    if image.mode.startswith("I"):  # 16-bit grey, in versions of Pillow also as 32-bit integers
        grey = np.asarray(image).astype(np.int64)
        values = int(grey.min()), int(grey.max())
        if values[0] < 0 or values[1] > 0xFFFF:
            raise ValueError("its grey values need more than 16 bits")
        tags = getattr(image, "tag_v2", {})
        if tags.get(_PHOTOMETRIC, 1) == 0:  # white is zero; Pillow turns 8-bit grey alone
            grey = (1 << rules.grey_bits) - 1 - grey
        levels = np.clip(grey >> (rules.grey_bits - 8), 0, 255).astype(np.uint8)
        return Image.fromarray(levels).convert("RGB"), False, values
    if not image.has_transparency_data:
        return image.convert("RGB"), False, (-1, -1)
    whole = image.convert("RGBA")
    transparent = whole.getextrema()[3][0] < 255
    if not transparent or rules.background == STORED:
        return whole.convert("RGB"), transparent, (-1, -1)
    below = Image.new("RGBA", whole.size, _background(rules))
    return Image.alpha_composite(below, whole).convert("RGB"), True, (-1, -1)


def _background(rules: Rules) -> tuple[int, int, int, int]:
    try:
        return (*ImageColor.getrgb(rules.background)[:3], 255)
    except ValueError:
        raise ValueError(
            f"the background {rules.background!r} is no colour: give a name such as white,"
            f" '#rrggbb' or {STORED}"
        ) from None


def _resize(image: Image.Image, rules: Rules) -> Image.Image:
    width, height = image.size
    left = top = 0.0
    if rules.resize == "center_crop":
        # The resize crops the square: scaling a long strip as a whole could fill the memory.
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, width - left, height - top)
    size = (rules.image_size, rules.image_size)
    return image.resize(size, Image.Resampling.BILINEAR, box=box)


def _unreadable(error: Exception, data: bytes | Image.Image) -> str:
    other = why_unreadable(data[:HEAD]) if isinstance(data, bytes) else ""
    if other:
        return f"is {other}"
    if isinstance(error, UnidentifiedImageError):
        reason = f"none of {', '.join(FORMATS)}"
    else:
        reason = str(error).rstrip(".") or type(error).__name__
    return f"is not an image that can be read ({reason})"


class _QuietPillow:
    """Disables Pillow's warnings and size limit, whose messages lack the size, while in use.

    Both are settings of the whole process: the first thread that enters changes them, the last one
    that leaves restores them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads = 0
        self._restore = contextlib.ExitStack()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        with self._lock:
            self._threads += 1
            if self._threads == 1:
                self._restore.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
                Image.MAX_IMAGE_PIXELS = None
                self._restore.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", module=r"PIL\.")
        try:
            yield
        finally:
            with self._lock:
                self._threads -= 1
                if self._threads == 0:
                    self._restore.close()


_QUIET = _QuietPillow()


def resize_all(images: np.ndarray, image_size: int) -> np.ndarray:
    """Square uint8 images [N, S, S] or [N, S, S, 3] to `image_size`, bilinear as `decode_image`."""
    if image_size == images.shape[1]:
        return images
    resized = np.empty((len(images), image_size, image_size, *images.shape[3:]), np.uint8)
    for i, image in enumerate(images):
        size = (image_size, image_size)
        resized[i] = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
    return resized
