"""Image transforms on the device: size, normalisation, random crops, shifts and flips.

Random transforms draw per image from one key and the shape of the whole batch, so that the result
does not depend on the number of devices that the batch is spread over.
"""

import jax
import jax.numpy as jnp
import numpy as np

# Mean and standard deviation per channel, of 1. "imagenet" is torchvision's, "cifar" is what LfF's
# code and its descendants use, "lite" is TensorFlow's for EfficientNet-Lite: (x - 127) / 128.
NORMALIZATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "symmetric": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "lite": ((127 / 255,) * 3, (128 / 255,) * 3),
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    # x / 255 / 255, as LfF's code divides Coloured MNIST; inputs of a hundredth and less.
    "unit_twice": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
}


def normalize(images: jax.Array, kind: str = "symmetric") -> jax.Array:
    """Pixels 0..255 [..., H, W, 3] -> float32: (x / 255 - mean) / std."""
    mean, std = _mean_and_std(kind)
    return (images.astype(jnp.float32) - mean) / std


def denormalize(x: jax.Array, kind: str = "symmetric") -> jax.Array:
    """The inverse of `normalize`, rounded and clipped to uint8."""
    mean, std = _mean_and_std(kind)
    return jnp.clip(jnp.rint(x * std + mean), 0, 255).astype(jnp.uint8)


def _mean_and_std(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """In units of pixel values."""
    mean, std = NORMALIZATIONS[kind]
    return np.float32(255.0 * np.array(mean)), np.float32(255.0 * np.array(std))


def random_shift(key: jax.Array, images: jax.Array, max_shift: int) -> jax.Array:
    """Shift every image by up to max_shift pixels along each axis, filling with black.

    This is the random crop after zero padding; every one of (2 max_shift + 1)^2 offsets is equally
    likely.

    Args:
        key: One key for the batch.
        images: uint8 [B, H, W, C], not yet normalised: 0 is black.
        max_shift: At least 0.
    """
    width = ((0, 0), (max_shift, max_shift), (max_shift, max_shift), (0, 0))
    offsets = jax.random.randint(key, (len(images), 2), 0, 2 * max_shift + 1)

    def crop(padded: jax.Array, offset: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(padded, (offset[0], offset[1], 0), images.shape[1:])

    return jax.vmap(crop)(jnp.pad(images, width), offsets)


def random_flip(key: jax.Array, images: jax.Array) -> jax.Array:
    """Mirror every image [B, H, W, C] left to right with probability one half."""
    flip = jax.random.bernoulli(key, shape=(len(images), 1, 1, 1))
    return jnp.where(flip, images[:, :, ::-1], images)


def random_crop(key: jax.Array, images: jax.Array, size: int) -> jax.Array:
    """A size x size part of every image [B, S, S, C], every place equally likely; size <= S."""
    offsets = jax.random.randint(key, (len(images), 2), 0, images.shape[1] - size + 1)

    def crop(image: jax.Array, offset: jax.Array) -> jax.Array:
        corner = (offset[0], offset[1], 0)
        return jax.lax.dynamic_slice(image, corner, (size, size, image.shape[-1]))

    return jax.vmap(crop)(images, offsets)


def center_crop(images: jax.Array, size: int) -> jax.Array:
    """The central size x size part of images [B, S, S, C]; size <= S."""
    first = (images.shape[1] - size) // 2
    return images[:, first : first + size, first : first + size]


def enlarge(images: jax.Array, size: int) -> jax.Array:
    """Images [B, S, S, C], size >= S, to size x size, bilinear: float32 in 0..255."""
    shape = (len(images), size, size, images.shape[-1])
    return jax.image.resize(images.astype(jnp.float32), shape, "bilinear")


def random_resized_crop(key: jax.Array, images: jax.Array, size: int, min_area: float) -> jax.Array:
    """A random part of every image, scaled to size x size (Szegedy et al. 2014, section 6).

    Its share of the area is uniform in [min_area, 1], the logarithm of its aspect ratio uniform
    between those of 3/4 and 4/3, as in torchvision. Where a side comes out longer than the image
    it is cut to that; torchvision draws again up to ten times. Bilinear, with antialiasing.

    Args:
        key: One key for the batch.
        images: Pixels 0..255 [B, S, S, C].
        size: Side of the result.
        min_area: Between 0 and 1.

    Returns:
        float32 [B, size, size, C] in 0..255.
    """
    side = images.shape[1]
    area_key, ratio_key, place_key = jax.random.split(key, 3)
    area = jax.random.uniform(area_key, (len(images), 1), minval=min_area, maxval=1.0)
    log_ratio = jax.random.uniform(
        ratio_key, (len(images), 1), minval=np.log(3 / 4), maxval=np.log(4 / 3)
    )
    # Heights and widths, [B, 2].
    sides = side * jnp.sqrt(area) * jnp.exp(log_ratio * jnp.array([-0.5, 0.5]))
    sides = jnp.clip(jnp.round(sides), 1, side)
    corners = jnp.floor(jax.random.uniform(place_key, sides.shape) * (side - sides + 1))

    def cut(image: jax.Array, corner: jax.Array, sides: jax.Array) -> jax.Array:
        scale = size / sides
        return jax.image.scale_and_translate(
            image, (size, size, image.shape[-1]), (0, 1), scale, -corner * scale, "bilinear"
        )

    return jax.vmap(cut)(images.astype(jnp.float32), corners, sides)


def to_input(images: jax.Array, size: int, normalization: str) -> jax.Array:
    """What a network sees in evaluation: the central part or the whole, enlarged; normalised.

    Args:
        images: uint8 [B, S, S, 3].
        size: Side that the network sees.
        normalization: Name in NORMALIZATIONS.

    Returns:
        float32 [B, size, size, 3].
    """
    if images.shape[1] > size:
        images = center_crop(images, size)
    elif images.shape[1] < size:
        images = enlarge(images, size)
    return normalize(images, normalization)


def augment(
    key: jax.Array,
    images: jax.Array,
    *,
    max_shift: int = 0,
    flip: bool = False,
    crop_size: int = 0,
    min_area: float = 0.0,
) -> jax.Array:
    """Random crop, shift and flip of images [B, S, S, C], in this order.

    Args:
        key: One key for the batch.
        images: uint8 pixels.
        max_shift: See `random_shift`; 0 leaves it out.
        flip: Whether to mirror.
        crop_size: Side of a random crop; 0, or anything but less than S, leaves it out.
        min_area: Above 0 the crop is `random_resized_crop` to crop_size (0 is S) instead.
    """
    shift_key, flip_key = jax.random.split(key)
    if min_area:
        crop_key = jax.random.fold_in(key, 2)
        images = random_resized_crop(crop_key, images, crop_size or images.shape[1], min_area)
    elif 0 < crop_size < images.shape[1]:
        images = random_crop(jax.random.fold_in(key, 2), images, crop_size)
    if max_shift:
        images = random_shift(shift_key, images, max_shift)
    return random_flip(flip_key, images) if flip else images
