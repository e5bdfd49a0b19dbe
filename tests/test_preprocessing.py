"""Normalisation, shifts and flips against NumPy, and on eight devices against one."""

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ddb_jax.data.preprocessing import augment, denormalize, normalize, random_flip, random_shift


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


@pytest.mark.parametrize("kind", ["symmetric", "imagenet"])
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
