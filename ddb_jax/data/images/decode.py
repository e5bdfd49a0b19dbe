"""Decodes one image file to uint8 [S, S, 3], or says why it cannot be used.

The rules are those of the loaders used for the published sets (Pillow's `convert("RGB")` and
bilinear resize, as in torchvision), plus two: EXIF rotation is applied, and 16-bit grey keeps its
upper 8 bits, which `convert` would clip to white.
"""

import contextlib
import io
import threading
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

RESIZES = ("squash", "center_crop", "none")
# Only these: Pillow hands other formats to other programs (EPS to Ghostscript).
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
MIN_SIDE = 4
MAX_PIXELS = 100_000_000  # 400 MB while it is decoded

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


def decode_image(data: bytes | Image.Image, image_size: int, resize: str) -> np.ndarray:
    """Decode, turn upright, convert to RGB and resize; may be called from several threads.

    The format is told by the content, not by the name. Palette, grey and CMYK images become RGB;
    an alpha channel is dropped, so that transparent pixels show the colour stored under them; of an
    animation the first frame is taken.

    Args:
        data: A whole file, or an image that is open or in memory.
        image_size: S.
        resize: "squash" scales both sides to S; "center_crop" scales the central square, as
            scaling the short side to S and cutting out the centre does; "none" takes only images
            that are S x S. Scaling is bilinear and antialiased.

    Returns:
        uint8 [S, S, 3].

    Raises:
        ValueError: The image cannot be used; the message goes after "PATH: ".
    """
    if resize not in RESIZES:
        raise ValueError(f"cannot be resized by {resize!r}, there is {', '.join(RESIZES)}")
    with _QUIET.held():
        try:
            image = _open(data) if isinstance(data, bytes) else data
        except MemoryError:
            raise  # says nothing about the image
        except Exception as error:  # a damaged file makes Pillow raise almost anything
            raise ValueError(_unreadable(error)) from None
        _check_size(image.size, image_size, resize)
        try:
            return _resize(_to_rgb(_upright(image)), image_size, resize)
        except MemoryError:
            raise
        except Exception as error:
            raise ValueError(_unreadable(error)) from None


def _open(data: bytes) -> Image.Image:
    """Reads the header only."""
    if not data:
        raise ValueError("the file is empty")
    return Image.open(io.BytesIO(data), formats=FORMATS)


def _check_size(size: tuple[int, int], image_size: int, resize: str) -> None:
    width, height = size
    shown = f"is {width:,} x {height:,} pixels"
    if min(size) < MIN_SIDE:
        raise ValueError(f"{shown}, smaller than {MIN_SIDE}")
    if width * height > MAX_PIXELS:
        raise ValueError(f"{shown}, more than the {MAX_PIXELS:,} that are decoded")
    if resize == "none" and size != (image_size, image_size):
        raise ValueError(
            f"{shown} and resizing is off, all images must be {image_size} x {image_size}"
        )


def _upright(image: Image.Image) -> Image.Image:
    image.load()  # Pillow turns TIFF images itself, and takes the tag away, when it loads them
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # damaged EXIF data; the picture is whole
        return image
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey, in versions of Pillow also as 32-bit integers
        grey = np.asarray(image)
        if grey.min() < 0 or grey.max() > 0xFFFF:
            raise ValueError("its grey values need more than 16 bits")
        image = Image.fromarray((grey >> 8).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("its grey values are floating-point numbers")
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # what Pillow wants before it drops a palette's alpha
    return image.convert("RGB")


def _resize(image: Image.Image, image_size: int, resize: str) -> np.ndarray:
    width, height = image.size
    left = top = 0.0
    if resize == "center_crop":
        # The resize crops the square: scaling a long strip as a whole could fill the memory.
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, width - left, height - top)
    return np.array(image.resize((image_size, image_size), Image.Resampling.BILINEAR, box=box))


def _unreadable(error: Exception) -> str:
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
