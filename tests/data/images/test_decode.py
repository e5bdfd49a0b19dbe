"""Decoding: colour modes, EXIF rotation, resizing, and what is refused and why."""

import io
import os
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddb_jax.data.images.decode import STORED, Rules, check_rules, decode_image

BAR = Path(os.environ.get("DDB_JAX_DATA", Path(__file__).parents[4] / "shared" / "data")) / "bar"
needs_bar = pytest.mark.skipif(not BAR.exists(), reason=f"there is no {BAR}")

RGB = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
GREY = RGB[..., 0]


def decode(data, image_size, resize, background=STORED, grey_bits=16):
    return decode_image(data, Rules(image_size, resize, background, grey_bits)).pixels


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def repeated(grey):
    return np.repeat(grey[..., None], 3, axis=-1)


def png(width, height):
    """A PNG file with a header and no pixels."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def palette(transparency):
    """Index i of the palette is (i, 2 i, 255 - i)."""
    indices = (GREY % 100).astype(np.uint8)
    image = Image.fromarray(indices).copy()
    image.putpalette([v for i in range(100) for v in (i, 2 * i, 255 - i)])
    assert image.mode == "P"
    expected = np.stack([indices, 2 * indices, 255 - indices], -1)
    return encoded(image, **transparency), expected


def modes():
    alpha = np.random.default_rng(1).integers(0, 256, (6, 6, 1), dtype=np.uint8)
    alpha[0] = 0
    grey16 = GREY.astype(np.uint16) * 256 + 77  # the lower byte is dropped
    bits = GREY > 127
    return {
        "RGB": (encoded(Image.fromarray(RGB)), RGB),
        "BMP": (encoded(Image.fromarray(RGB), "BMP"), RGB),
        "WEBP": (encoded(Image.fromarray(RGB), "WEBP", lossless=True), RGB),
        "PPM": (encoded(Image.fromarray(RGB), "PPM"), RGB),
        "L": (encoded(Image.fromarray(GREY)), repeated(GREY)),
        "P": palette({}),
        "P with alpha": palette({"transparency": bytes(range(100))}),
        "P with a transparent index": palette({"transparency": 3}),
        "GIF": (encoded(Image.fromarray(GREY), "GIF"), repeated(GREY)),
        "RGBA": (encoded(Image.fromarray(np.concatenate([RGB, alpha], -1))), RGB),
        "LA": (
            encoded(Image.fromarray(np.concatenate([GREY[..., None], alpha], -1))),
            repeated(GREY),
        ),
        "I;16 PNG": (encoded(Image.fromarray(grey16)), repeated(GREY)),
        "I;16 TIFF": (encoded(Image.fromarray(grey16), "TIFF"), repeated(GREY)),
        "1": (encoded(Image.fromarray(bits)), repeated(np.where(bits, 255, 0).astype(np.uint8))),
    }


@pytest.mark.parametrize("mode", modes())
def test_every_mode_becomes_rgb(mode):
    data, expected = modes()[mode]
    image = decode(data, 6, "none")
    assert image.dtype == np.uint8 and image.shape == (6, 6, 3)
    np.testing.assert_array_equal(image, expected)


def test_cmyk_is_ink():
    ink = np.zeros((8, 8, 4), np.uint8)
    ink[..., 0] = 255  # full cyan takes away the red
    image = decode(encoded(Image.fromarray(ink, "CMYK"), "TIFF"), 8, "none")
    np.testing.assert_array_equal(image, np.broadcast_to([0, 255, 255], (8, 8, 3)))
    image = decode(encoded(Image.fromarray(ink, "CMYK"), "JPEG"), 8, "none").astype(int)
    assert np.abs(image - [0, 255, 255]).max() < 10


def test_of_an_animation_the_first_frame_is_taken():
    frames = [Image.fromarray(np.full((6, 6), value, np.uint8)) for value in (40, 200)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.all(decode(data, 6, "none") == 40)


# What a viewer does with a stored image of each orientation (EXIF 2.32, tag 0x0112).
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: np.rot90(a, 2),
    4: lambda a: a[::-1],
    5: lambda a: np.swapaxes(a, 0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(np.swapaxes(a, 0, 1), 2),
    8: lambda a: np.rot90(a, 1),
    0: lambda a: a,  # means nothing, and is what seven files of BAR say
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(Image.fromarray(RGB), kind, exif=exif, **options)
    np.testing.assert_array_equal(decode(data, 6, "none"), UPRIGHT[orientation](RGB))


def test_exif_orientation_of_a_jpeg_that_is_not_square():
    upper_half_white = np.zeros((16, 32, 3), np.uint8)
    upper_half_white[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees to the right: what was above comes to the right
    data = encoded(Image.fromarray(upper_half_white), "JPEG", exif=exif)
    image = decode(data, 16, "squash")
    assert np.all(image[:, :7] < 20) and np.all(image[:, 9:] > 235)


def test_damaged_exif_leaves_the_image_as_it_is(recwarn):
    data = encoded(Image.fromarray(RGB), "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12")
    np.testing.assert_array_equal(decode(data, 6, "none"), RGB)
    assert not recwarn
    with Image.open(io.BytesIO(data)) as image:
        image.getexif()
    assert "Corrupt EXIF data" in str(recwarn.pop().message)  # which Pillow alone would say


def test_squash_averages_blocks():
    # Antialiased bilinear halving: the weights of the four nearest pixels of a row are 1 3 3 1.
    row = np.array([0, 80, 160, 240, 0, 80, 160, 240], np.float64)
    image = Image.fromarray(np.tile(row.astype(np.uint8), (8, 1)))
    weights = np.array([1, 3, 3, 1]) / 8
    inner = [weights @ row[1:5], weights @ row[3:7]]
    first = weights[1:] @ row[:3] / weights[1:].sum()
    last = weights[:3] @ row[5:] / weights[:3].sum()
    expected = np.rint([first, *inner, last])
    result = decode(encoded(image), 4, "squash")
    np.testing.assert_allclose(result[0, :, 0], expected, atol=1)
    assert np.all(result == result[:1])


def test_squash_and_center_crop_of_a_wide_image():
    # Thirds: red, green, blue, each 8 x 8. The crop sees green alone, the squash all three.
    wide = np.zeros((8, 24, 3), np.uint8)
    for third in range(3):
        wide[:, 8 * third : 8 * third + 8, third] = 255
    data = encoded(Image.fromarray(wide))
    assert np.all(decode(data, 8, "center_crop") == [0, 255, 0])
    assert np.all(decode(data, 4, "center_crop")[:, 1:3] == [0, 255, 0])
    squashed = decode(data, 12, "squash")
    assert np.all(squashed[:, 1] == [255, 0, 0]) and np.all(squashed[:, 10] == [0, 0, 255])
    tall = decode(encoded(Image.fromarray(np.swapaxes(wide, 0, 1))), 8, "center_crop")
    assert np.all(tall == [0, 255, 0])


def test_a_long_strip_is_cropped_before_it_is_scaled():
    strip = Image.new("L", (1_000_000, 4), 9)  # at short side 512 it would be 128 million x 512
    assert np.all(decode(strip, 512, "center_crop") == 9)


def test_an_image_in_memory_is_taken_too():
    np.testing.assert_array_equal(decode(Image.fromarray(RGB), 6, "none"), RGB)


NOISE = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
WHOLE = encoded(Image.fromarray(NOISE), "JPEG")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", r"is an empty file, which is not read \(copy or download them again\)"),
        (b"\0\0\0\x18ftypheic" + bytes(200), r"is HEIC, which is not read \(convert it to JPEG"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a git-lfs pointer, .*git lfs pull"),
        (b"<!DOCTYPE html><html>403</html>", "is a web page, which is not read"),
        (b"hello, " * 50, r"is not an image that can be read \(none of JPEG, PNG, .*\)"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "none of JPEG"),
        (WHOLE[: len(WHOLE) // 2], r"can be read \(image file is truncated .*\)"),
        (WHOLE[:30], "is not an image that can be read"),
        (encoded(Image.fromarray(NOISE))[:9000], "can be read .*truncated"),
        (png(8, 8), "is not an image that can be read"),
        (png(50_000, 50_000), "^is 50,000 x 50,000 pixels, more than the 100,000,000 that are dec"),
        (png(1, 1), "^is 1 x 1 pixels, smaller than 4$"),
        (png(300, 3), "^is 300 x 3 pixels, smaller than 4$"),
        (encoded(Image.new("F", (64, 64)), "TIFF"), "floating-point"),
        (encoded(Image.new("I", (64, 64), 70_000), "TIFF"), "more than 16 bits"),
    ],
)
def test_the_reason_for_refusal(data, reason):
    with pytest.raises(ValueError, match=reason):
        decode(data, 64, "squash")


def test_other_sizes_are_refused_when_resizing_is_off():
    with pytest.raises(ValueError) as error:
        decode(png(30, 40), 64, "none")
    assert str(error.value) == ("is 30 x 40 pixels and resizing is off, all images must be 64 x 64")


def test_rules_by_which_nothing_can_be_decoded_are_refused():
    with pytest.raises(ValueError, match=r"by 'pad': .* one of squash, center_crop, none"):
        check_rules(Rules(4, "pad"))
    with pytest.raises(ValueError, match="resized to 0 pixels"):
        check_rules(Rules(0))
    with pytest.raises(ValueError, match="background 'wite' is no colour: give a name such as"):
        check_rules(Rules(4, background="wite"))
    for background in ("white", "#102030", STORED):
        check_rules(Rules(4, background=background))


def test_warnings_and_limit_of_pillow_are_as_before_though_threads_decode():
    limit, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    large = png(9_600, 10_500)
    with pytest.raises(Image.DecompressionBombWarning):
        Image.open(io.BytesIO(large))
    data = [palette({"transparency": bytes(range(100))})[0], large] * 20

    def shape(one):
        try:
            return decode(one, 8, "squash").shape
        except ValueError as error:
            return str(error)[:17]

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(shape, data))
    assert results == [(8, 8, 3), "is 9,600 x 10,500"] * 20
    assert limit == Image.MAX_IMAGE_PIXELS and warnings.filters == filters


@needs_bar
@pytest.mark.parametrize(
    ("name", "kind", "size"),
    [
        ("test/diving_586.jpg", "PNG", (225, 225)),  # a palette image
        ("test/pole vaulting_325.jpg", "PNG", (500, 375)),
        ("train/diving_243.jpg", "JPEG", (256, 256)),  # EXIF orientation 0
    ],
)
def test_the_odd_files_of_bar(name, kind, size):
    data = (BAR / name).read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size) == (kind, size)
        # Area averages of the picture as it is shown.
        means = image.convert("RGBA").convert("RGB").reduce((size[0] // 8, size[1] // 8))
    expected = np.asarray(means).astype(int)[:8, :8]
    result = decode(data, 8, "squash").astype(int)
    error = np.abs(result - expected).mean()
    assert error < 12
    for other in (result[:, ::-1], result[::-1], np.swapaxes(result, 0, 1)):
        assert error < 0.7 * np.abs(other - expected).mean()
