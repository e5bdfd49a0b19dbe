"""Decoding: transparent parts on a background, and grey with more than 8 bits."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from ddb_jax.data.images.decode import Rules, decode_image

RGB = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
GREY = RGB[..., 0]


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def repeated(grey):
    return np.repeat(grey[..., None], 3, axis=-1)


def palette(transparency):
    """Index i of the palette is (i, 2 i, 255 - i)."""
    indices = (GREY % 100).astype(np.uint8)
    image = Image.fromarray(indices).copy()
    image.putpalette([v for i in range(100) for v in (i, 2 * i, 255 - i)])
    return encoded(image, **transparency), np.stack([indices, 2 * indices, 255 - indices], -1)


ALPHA = np.array([[0, 255], [128, 64]], np.uint8)


@pytest.mark.parametrize("background", [(255, 255, 255), (0, 0, 0), (16, 32, 48)])
def test_transparent_parts_show_the_background(background):
    """Source over an opaque background: alpha * colour + (1 - alpha) * background, by hand."""
    alpha = np.kron(ALPHA, np.ones((3, 3), np.uint8))[..., None]
    share = alpha / 255
    expected = share * RGB + (1 - share) * background
    data = encoded(Image.fromarray(np.concatenate([RGB, alpha], -1)))
    image = decode_image(data, Rules(6, "none", f"#{bytes(background).hex()}"))
    assert image.transparent and image.mode == "RGBA"
    assert np.abs(image.pixels - expected).max() <= 1
    grey = encoded(Image.fromarray(np.concatenate([GREY[..., None], alpha], -1)))
    expected = share * repeated(GREY) + (1 - share) * background
    image = decode_image(grey, Rules(6, "none", f"#{bytes(background).hex()}"))
    assert np.abs(image.pixels - expected).max() <= 1


def test_a_palette_with_a_transparent_index_shows_the_background():
    data, stored = palette({"transparency": 3})
    hidden = (GREY % 100) == 3
    hidden_data, _ = palette({"transparency": int(GREY[0, 0] % 100)})
    image = decode_image(hidden_data, Rules(6, "none", "white"))
    gone = (GREY % 100) == GREY[0, 0] % 100
    assert image.transparent
    np.testing.assert_array_equal(image.pixels[gone], 255)
    np.testing.assert_array_equal(image.pixels[~gone], stored[~gone])
    assert decode_image(data, Rules(6, "none", "white")).transparent == hidden.any()


def test_an_opaque_alpha_channel_is_not_transparent():
    opaque = np.full((6, 6, 1), 255, np.uint8)
    data = encoded(Image.fromarray(np.concatenate([RGB, opaque], -1)))
    image = decode_image(data, Rules(6, "none", "white"))
    assert not image.transparent
    np.testing.assert_array_equal(image.pixels, RGB)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_deep_grey_keeps_the_upper_8_of_the_bits_in_use(bits, kind):
    grey = GREY.astype(np.uint16) << (bits - 8)
    image = decode_image(encoded(Image.fromarray(grey), kind), Rules(6, "none", grey_bits=bits))
    np.testing.assert_array_equal(image.pixels, repeated(GREY))
    assert (image.grey_low, image.grey_high) == (grey.min(), grey.max())
    assert decode_image(encoded(Image.fromarray(GREY)), Rules(6)).grey_high == -1


def tiff16(values, photometric):
    """A little-endian 16-bit TIFF of one strip."""
    height, width = values.shape
    tags = (
        (256, 4, width), (257, 4, height), (258, 3, 16), (259, 3, 1), (262, 3, photometric),
        (273, 4, 8), (277, 3, 1), (278, 4, height), (279, 4, values.nbytes),
    )  # fmt: skip
    table = struct.pack("<H", len(tags))
    for tag, kind, value in tags:
        table += struct.pack("<HHII", tag, kind, 1, value)
    pixels = values.astype("<u2").tobytes()
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + table + bytes(4)


@pytest.mark.parametrize("bits", [12, 16])
def test_where_white_is_zero_deep_grey_is_turned(bits):
    """As X-ray exports have it; Pillow turns 8-bit grey of this kind, and no deeper one."""
    white_is_zero = (255 - GREY).astype(np.uint16) << (bits - 8)
    image = decode_image(tiff16(white_is_zero, 0), Rules(6, "none", grey_bits=bits))
    np.testing.assert_array_equal(image.pixels, repeated(GREY))
    straight = decode_image(tiff16(white_is_zero, 1), Rules(6, "none", grey_bits=bits))
    np.testing.assert_array_equal(straight.pixels, repeated(255 - GREY))
