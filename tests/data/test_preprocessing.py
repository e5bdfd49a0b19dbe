"""Normalisation, shifts and flips against NumPy, and on eight devices against one."""

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from PIL import Image

from ddb_jax.data.preprocessing import (
    augment,
    center_crop,
    denormalize,
    enlarge,
    normalize,
    random_crop,
    random_flip,
    random_resized_crop,
    random_shift,
    to_input,
)


def pixels(batch=64, height=5, width=4):
    return np.random.default_rng(0).integers(1, 256, (batch, height, width, 3), dtype=np.uint8)


def test_symmetric_normalisation():
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, -1)
    x = normalize(images)
    assert x.dtype == np.float32
    assert float(x[0, 0, 0, 0]) == -1.0 and float(x[0, -1, -1, 0]) == 1.0
    np.testing.assert_allclose(x, images / 127.5 - 1.0, atol=1e-6)


def test_imagenet_normalisation():
    # torchvision: (x / 255 - mean) / std; white in red is (1 - 0.485) / 0.229.
    white = np.full((1, 1, 1, 3), 255, np.uint8)
    np.testing.assert_allclose(
        normalize(white, "imagenet")[0, 0, 0], [2.248908, 2.428571, 2.64], rtol=1e-5
    )
    black = np.zeros((1, 1, 1, 3), np.uint8)
    np.testing.assert_allclose(
        normalize(black, "imagenet")[0, 0, 0], [-2.117904, -2.035714, -1.804444], rtol=1e-5
    )


@pytest.mark.parametrize("kind", ["symmetric", "imagenet", "cifar", "unit"])
def test_denormalize_inverts_every_value(kind):
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, -1)
    back = denormalize(normalize(images, kind), kind)
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, images)


def test_denormalize_rounds_and_clips():
    x = np.array([-1.7, -1.0, 0.0, 0.9961, 1.3], np.float32).reshape(5, 1, 1, 1).repeat(3, -1)
    # 0 is 127.5, which rounds to even; 0.9961 is 254.50275.
    assert denormalize(x)[:, 0, 0, 0].tolist() == [0, 0, 128, 255, 255]


def shifted(image, dy, dx):
    """image moved down by dy and right by dx, by loops."""
    height, width, _ = image.shape
    result = np.zeros_like(image)
    for y in range(height):
        for x in range(width):
            if 0 <= y - dy < height and 0 <= x - dx < width:
                result[y, x] = image[y - dy, x - dx]
    return result


def test_random_shift_is_a_shift_of_each_image():
    images, reach = pixels(batch=300), 2
    result = np.asarray(jax.jit(random_shift, static_argnums=2)(jax.random.key(0), images, reach))
    assert result.dtype == np.uint8
    moves = [(dy, dx) for dy in range(-reach, reach + 1) for dx in range(-reach, reach + 1)]
    found = []
    for image, moved in zip(images, result, strict=True):
        (move,) = [m for m in moves if np.array_equal(shifted(image, *m), moved)]
        found.append(move)
    # 300 images over 25 offsets, 12 each; a fair draw leaves 3 to 28 in every one.
    counts = [found.count(move) for move in moves]
    assert 3 <= min(counts) and max(counts) <= 28


def test_random_flip_mirrors_about_half():
    images = pixels(batch=400)
    result = np.asarray(random_flip(jax.random.key(1), images))
    flipped = np.all(result == images[:, :, ::-1], axis=(1, 2, 3))
    kept = np.all(result == images, axis=(1, 2, 3))
    assert np.all(flipped ^ kept)
    assert 150 < flipped.sum() < 250  # five standard deviations


def test_augment_does_what_is_asked_for_alone():
    images, key = pixels(), jax.random.key(2)
    np.testing.assert_array_equal(augment(key, images, max_shift=0, flip=False), images)
    only_flip = np.asarray(augment(key, images, max_shift=0, flip=True))
    np.testing.assert_array_equal(np.sort(only_flip, axis=2), np.sort(images, axis=2))
    assert np.any(only_flip != images)
    only_shift = np.asarray(augment(key, images, max_shift=1, flip=False))
    assert all(
        any(np.array_equal(shifted(a, y, x), b) for y in (-1, 0, 1) for x in (-1, 0, 1))
        for a, b in zip(images, only_shift, strict=True)
    )


def test_shift_and_flip_are_independent_draws():
    images = pixels(batch=200)
    both = np.asarray(augment(jax.random.key(3), images, max_shift=1, flip=True))
    shift = np.asarray(augment(jax.random.key(3), images, max_shift=1, flip=False))
    flipped = np.any(both != shift, axis=(1, 2, 3))
    moved = np.any(shift != images, axis=(1, 2, 3))
    still = flipped[~moved]
    assert 0 < still.sum() < len(still)


def test_eight_devices_give_what_one_gives():
    images, key = pixels(), jax.random.key(4)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    sharded = jax.device_put(images, NamedSharding(mesh, PartitionSpec("data")))
    apply = jax.jit(lambda k, x: normalize(augment(k, x, max_shift=2, flip=True)))
    result = apply(key, sharded)
    assert len(result.sharding.device_set) == 8
    np.testing.assert_array_equal(result, apply(key, images))


def test_center_crop_takes_the_middle():
    images = pixels(2, 7, 7)
    np.testing.assert_array_equal(center_crop(images, 3), images[:, 2:5, 2:5])
    # torchvision takes round((8 - 5) / 2), which is 2 here; ours is the lower of the two middles.
    np.testing.assert_array_equal(center_crop(pixels(1, 8, 8), 5), pixels(1, 8, 8)[:, 1:6, 1:6])


def test_enlarge_is_pillows():
    images = pixels(1, 8, 8)
    expected = Image.fromarray(images[0]).resize((20, 20), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(
        enlarge(images, 20)[0], np.asarray(expected), atol=1.01
    )  # it rounds twice


def test_random_crops_are_parts_and_every_place_comes():
    rows, columns = np.mgrid[:6, :6].astype(np.uint8)
    images = np.stack([np.stack([rows, columns, 0 * rows], -1)] * 400)
    cropped = np.asarray(random_crop(jax.random.key(0), images, 4))
    assert cropped.shape == (400, 4, 4, 3)
    corners = cropped[:, 0, 0, :2]
    for image, (row, column) in zip(cropped, corners, strict=True):
        np.testing.assert_array_equal(image, images[0, row : row + 4, column : column + 4])
    counts = np.bincount(corners[:, 0] * 3 + corners[:, 1], minlength=9)
    # 400 draws over 9 places: 44 each, standard deviation 6.3.
    assert counts.sum() == 400 and counts.min() > 20 and counts.max() < 70


@pytest.fixture(scope="module")
def resized_crops():
    """Crops of a ramp, and of a texture with the same draws: key, ramp's crops, texture, its."""
    side, size, key = 64, 32, jax.random.key(3)
    ys, xs = np.mgrid[:side, :side].astype(np.float32)
    ramp = np.stack([np.stack([ys, xs, 0 * ys], -1)] * 200)
    texture = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    crop = jax.jit(lambda images: random_resized_crop(key, images, size, 0.25))
    return np.asarray(crop(ramp)), texture, np.asarray(crop(np.stack([texture] * 200)))


def boxes(ramp_crops, size=32):
    """Height, width and corner of every crop, read off the slopes of the ramp's inner part."""
    inner = slice(8, 24)
    slope = [np.diff(ramp_crops[:, inner, inner, c].mean(2 - c), axis=1).mean(1) for c in (0, 1)]
    centre = [ramp_crops[:, 15:17, 15:17, c].mean((1, 2)) for c in (0, 1)]
    sides = np.stack(slope, 1) * size
    # Pixel i has its centre at i; a box of side s from corner a has its centre at a + s/2 - 1/2.
    return sides, np.stack(centre, 1) - sides / 2 + 0.5


def test_random_resized_crop_draws_torchvisions_boxes(resized_crops):
    sides, corners = boxes(resized_crops[0])
    area, ratio = sides.prod(1) / 64**2, sides[:, 1] / sides[:, 0]
    # A side is rounded to pixels and cut at the image's, so a little slack.
    assert area.min() > 0.23 and area.max() < 1.001
    assert ratio.min() > 0.7 and ratio.max() < 1.4
    # The antialiased ramp ripples a little; that boxes are whole pixels the next test shows.
    assert corners.min() > -0.5 and (corners + sides).max() < 64.5
    assert abs(area.mean() - 0.61) < 0.05  # uniform in [0.25, 1], less what is cut off
    assert len(np.unique(corners.round(), axis=0)) > 100


def test_random_resized_crop_is_pillows_resize_of_the_box(resized_crops):
    ramp_crops, texture, texture_crops = resized_crops
    sides, corners = (x.round().astype(int) for x in boxes(ramp_crops))
    inner = slice(4, 28)  # at the edge Pillow's filter ends with the box, ours with the image
    for i in range(20):
        (height, width), (top, left) = sides[i], corners[i]
        box = texture[top : top + height, left : left + width]
        expected = np.asarray(Image.fromarray(box).resize((32, 32), Image.Resampling.BILINEAR))
        np.testing.assert_allclose(
            texture_crops[i][inner, inner], expected[inner, inner], atol=1.01
        )


def test_evaluation_sees_the_middle_the_whole_or_an_enlargement():
    images = pixels(2, 6, 6)
    np.testing.assert_array_equal(
        to_input(images, 4, "unit"), images[:, 1:5, 1:5].astype(np.float32) / np.float32(255)
    )
    np.testing.assert_allclose(to_input(images, 6, "unit") * 255, images, atol=1e-3)
    assert to_input(images, 12, "unit").shape == (2, 12, 12, 3)


def test_augment_crops_to_the_networks_size():
    key, images = jax.random.key(0), pixels(4, 8, 8)
    assert augment(key, images, crop_size=6).shape == (4, 6, 6, 3)
    assert augment(key, images, crop_size=6, min_area=0.5).shape == (4, 6, 6, 3)
    assert augment(key, images, min_area=0.5).shape == (4, 8, 8, 3)
    # Smaller images are left for to_input to enlarge.
    np.testing.assert_array_equal(augment(key, images, crop_size=16), images)
