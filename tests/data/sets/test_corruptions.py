"""Corruptions of small images, each against what it must do to an image made for it."""

import colorsys

import numpy as np
import pytest

from ddb_jax.data.sets.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from ddb_jax.data.sets.frost import frost_crops

RANDOM = {"snow", "frost", "spatter", "frosted_glass_blur"}


def photographs(number, seed=0):
    """Smooth random images with some texture."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (number, 4, 4, 3)).repeat(8, 1).repeat(8, 2)
    return (coarse + rng.normal(0, 10, coarse.shape)).clip(0, 255).astype(np.uint8)


def flat(*colour):
    return np.full((1, 32, 32, 3), colour, np.uint8)


def one(image, name, severity, seed=0):
    """The corrupted image as integers that may be subtracted."""
    return corrupt(image, name, severity, seed, np.array([7]))[0].astype(int)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_depends_on_seed_and_key_alone(name):
    images, keys = photographs(6), np.array([4, 0, 9, 2, 40_000, 3])
    whole = corrupt(images, name, 3, 11, keys)
    assert whole.shape == images.shape and whole.dtype == np.uint8
    assert not np.array_equal(whole, images)
    part = np.array([5, 1])
    np.testing.assert_array_equal(corrupt(images[part], name, 3, 11, keys[part]), whole[part])
    other = corrupt(images, name, 3, 12, keys)
    same = corrupt(images[[0, 0]], name, 3, 11, np.array([4, 5]))
    assert np.array_equal(other, whole) == (name not in RANDOM)
    assert np.array_equal(same[0], same[1]) == (name not in RANDOM)


def test_keys_of_two_numbers_and_long_batches():
    images = photographs(300)
    keys = np.stack([np.arange(300) % 2, np.arange(300)], 1)
    whole = corrupt(images, "spatter", 3, 0, keys)
    np.testing.assert_array_equal(corrupt(images[-2:], "spatter", 3, 0, keys[-2:]), whole[-2:])
    assert not np.array_equal(
        corrupt(images[:1], "spatter", 3, 0, np.array([[0, 5]])),
        corrupt(images[:1], "spatter", 3, 0, np.array([[1, 5]])),
    )


@pytest.mark.parametrize("name", ["defocus_blur", "brightness", "contrast"])
def test_change_grows_with_severity(name):
    images = photographs(8)
    change = [
        np.abs(corrupt(images, name, s, 0, np.arange(8)).astype(int) - images).mean()
        for s in SEVERITIES
    ]
    assert np.all(np.diff(change) > 0)


def hsv(image, change):
    """`change` of hue, saturation and value of every pixel, by Python's colorsys."""
    pixels = [
        colorsys.hsv_to_rgb(*np.clip(change(*colorsys.rgb_to_hsv(*pixel)), 0, 1))
        for pixel in image.reshape(-1, 3) / 255.0
    ]
    return 255 * np.array(pixels).reshape(image.shape)


@pytest.mark.parametrize(("severity", "rise"), [(1, 0.05), (3, 0.15), (5, 0.3)])
def test_brightness_raises_the_value_of_hsv(severity, rise):
    image = photographs(1)
    image[0, 0, :3] = [[0, 0, 0], [128, 128, 128], [255, 0, 0]]
    expected = hsv(image[0], lambda h, s, v: (h, s, v + rise))
    assert np.abs(one(image, "brightness", severity) - expected).max() <= 0.51


@pytest.mark.parametrize(
    ("severity", "factor", "offset"), [(1, 0.3, 0), (2, 0.1, 0), (3, 1.5, 0), (5, 2.5, 0.2)]
)
def test_saturate_changes_the_saturation_of_hsv(severity, factor, offset):
    image = photographs(1)
    image[0, 0, :3] = [[0, 0, 0], [128, 128, 128], [255, 0, 0]]
    expected = hsv(image[0], lambda h, s, v: (h, s * factor + offset, v))
    assert np.abs(one(image, "saturate", severity) - expected).max() <= 0.51


def test_contrast_draws_channels_towards_their_means():
    image = flat(0, 40, 90)
    image[0, :, 16:] = (255, 80, 90)
    changed = one(image, "contrast", 5)
    # Means 127.5, 60, 90; 0.15 of the distances 127.5, 20, 0 remains.
    assert changed[3, 3].tolist() == [108, 57, 90]
    assert changed[3, 20].tolist() == [147, 63, 90]


def test_defocus_blur_of_a_point():
    image = flat(0, 0, 0)
    image[0, 10, 20] = 255
    strongest = one(image, "defocus_blur", 5)[:, :, 0]
    # A disk of radius 1.5 holds 3 by 3 pixels; its edge of softness 0.1 is sharp. 255 / 9 = 28.3.
    expected = np.zeros((32, 32), int)
    expected[9:12, 19:22] = 28
    np.testing.assert_array_equal(strongest, expected)
    # Radius 1 holds a cross of five: 255 / 5 = 51.
    expected[9:12, 19:22] = [[0, 51, 0], [51, 51, 51], [0, 51, 0]]
    np.testing.assert_array_equal(one(image, "defocus_blur", 4)[:, :, 2], expected)
    # Radius 0.3 holds one, softened by exp(-1 / (2 0.4^2)) = 0.0439 along each axis:
    # 1 / (1 + 2 * 0.0439)^2 = 0.845 of 255 in the middle, 9.5 beside it and 0.4 at the corners.
    weak = one(image, "defocus_blur", 1)[9:12, 19:22, 1]
    assert weak.tolist() == [[0, 9, 0], [9, 215, 9], [0, 9, 0]]


def test_frosted_glass_takes_pixels_from_above_and_left():
    y, x = np.mgrid[0:32, 0:32]
    image = np.stack([8 * y, 8 * x, 0 * x], -1)[None].astype(np.uint8)
    # Severity 1 blurs by 0.05 pixels, which is nothing: what is left is the moving of pixels.
    moved = one(image, "frosted_glass_blur", 1)
    up, left = (image[0, ..., 0] - moved[..., 0]) / 8, (image[0, ..., 1] - moved[..., 1]) / 8
    assert set(np.unique(up)) == set(np.unique(left)) == {0, 1}
    assert not up[:2].any() and not up[:, :2].any() and not left[:2].any()
    inner = np.stack([up[2:, 2:], left[2:, 2:]])
    assert np.all(np.abs(inner.mean((1, 2)) - 0.5) < 0.07)  # 900 fair draws: 4 deviations
    assert abs(np.corrcoef(inner.reshape(2, -1))[0, 1]) < 0.15
    # Severity 4 does it twice and blurs by 0.25 pixels, which moves these slopes little.
    twice = (image[0, 2:30, 2:30, 0] - one(image, "frosted_glass_blur", 4)[2:30, 2:30, 0]) / 8
    assert twice.max() > 1.5 and 0.8 < twice.mean() < 1.2


def test_pixelate_leaves_fewer_columns():
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    for severity, columns in ((5, 20), (4, 24), (1, 30)):  # 32 times 0.65, 0.75, 0.95, cut off
        changed = one(image, "pixelate", severity)
        assert len(np.unique(changed, axis=0)) == columns
        assert len(np.unique(changed, axis=1)[0]) == columns
        assert abs(changed.mean() - image.mean()) < 5


def test_jpeg_loses_more_at_every_severity_but_nothing_of_a_flat_image():
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    loss = [
        np.abs(corrupt(images, "jpeg", s, 0, np.arange(4)).astype(int) - images).mean()
        for s in SEVERITIES
    ]
    assert loss[0] > 5 and np.all(np.diff(loss) > 0)
    assert np.abs(one(flat(200, 200, 200), "jpeg", 5) - 200).max() <= 2


@pytest.mark.parametrize("severity", [1, 2, 3])
def test_water_is_turquoise_light(severity):
    drops = one(flat(0, 0, 0), "spatter", severity)
    red, green, blue = drops[..., 0], drops[..., 1], drops[..., 2]
    np.testing.assert_array_equal(green, blue)
    assert np.abs(red - green * 175 / 238).max() <= 1
    assert green.max() == 119  # half of 238
    wet = np.mean(green > 0)
    assert {1: 0.002, 2: 0.01, 3: 0.1}[severity] < wet < {1: 0.08, 2: 0.15, 3: 0.5}[severity]


@pytest.mark.parametrize("severity", [4, 5])
def test_mud_covers(severity):
    image = corrupt(np.full((20, 32, 32, 3), 255, np.uint8), "spatter", severity, 0, np.arange(20))
    clean = (image == 255).all(-1)
    assert 0.01 < np.mean(~clean) < 0.3
    # Covered to at least 0.8: red is at most 255 - 0.8 (255 - 63) and at least 63.
    assert image[~clean][:, 0].max() <= 102
    assert np.abs(image[~clean].min(0).astype(int) - [63, 42, 20]).max() <= 1


@pytest.mark.parametrize(("severity", "grey"), [(1, 6), (3, 13), (5, 26)])
def test_snow_on_black(severity, grey):
    snow = one(flat(0, 0, 0), "snow", severity)
    assert np.all(snow == snow[..., :1])
    np.testing.assert_array_equal(snow, snow[::-1, ::-1])  # the flakes and their half turn
    # Where no flake lies, (1 - keep) / 2 of 255 is left: 6.4, 12.7, 25.5.
    assert abs(snow.min() - grey) <= 1
    assert snow.max() > 60


def test_snow_falls_down():
    images = np.zeros((50, 32, 32, 3), np.uint8)
    snow = corrupt(images, "snow", 4, 0, np.arange(50))[..., 0].astype(float)
    steps_down, steps_across = np.diff(snow, axis=1), np.diff(snow, axis=2)
    assert np.abs(steps_down).mean() < 0.8 * np.abs(steps_across).mean()


def test_frost_is_added_to_a_dimmed_image():
    on_black = {s: one(flat(0, 0, 0), "frost", s) for s in SEVERITIES}
    on_grey = {s: one(flat(100, 100, 100), "frost", s) for s in SEVERITIES}
    for severity, image_weight, ice_weight in ((1, 1, 0.2), (3, 0.9, 0.4), (5, 0.75, 0.45)):
        assert np.abs(on_grey[severity] - on_black[severity] - 100 * image_weight).max() <= 1
        ice = on_black[severity] / ice_weight
        assert np.abs(ice - on_black[5] / 0.45).max() <= 4  # roundings of 0.5 / 0.2 and 0.5 / 0.45
        assert ice.max() < 258


def test_frost_pieces_are_bluish_rough_and_unlike_each_other():
    pieces = frost_crops((32, 32), [np.random.default_rng(i) for i in range(40)])
    assert pieces.shape == (40, 32, 32, 3) and pieces.min() >= 0 and pieces.max() <= 1
    assert np.all(pieces[..., 2] >= pieces[..., 0])
    assert 0.3 < pieces.mean() < 0.7
    assert np.median(pieces.std((1, 2))) > 0.1
    alike = np.corrcoef(pieces[..., 0].reshape(40, -1)) - np.eye(40)
    assert np.abs(alike).max() < 0.9


@pytest.mark.parametrize(
    ("name", "severity", "words"),
    [("fog", 1, "no corruption 'fog'"), ("snow", 0, "severity is 0"), ("jpeg", 6, "severity is 6")],
)
def test_unknown_corruptions_and_severities(name, severity, words):
    with pytest.raises(ValueError, match=words):
        corrupt(photographs(1), name, severity, 0, np.array([0]))
