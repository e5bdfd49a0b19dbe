"""Image transforms on the device: normalisation, and shifts and flips on uint8 images.

Random transforms draw per image from one key and the shape of the whole batch, so that the result
does not depend on the number of devices that the batch is spread over.
"""

import jax
import jax.numpy as jnp
import numpy as np

# Mean and standard deviation per channel, of 1. "imagenet" is torchvision's.
NORMALIZATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "symmetric": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def normalize(images: jax.Array, kind: str = "symmetric") -> jax.Array:
    """uint8 [..., H, W, 3] -> float32: (x / 255 - mean) / std, for "symmetric" x / 127.5 - 1."""
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


def augment(key: jax.Array, images: jax.Array, *, max_shift: int, flip: bool) -> jax.Array:
    """Random shift and flip of uint8 images [B, H, W, C]; max_shift 0 and flip False leave out."""
    shift_key, flip_key = jax.random.split(key)
    if max_shift:
        images = random_shift(shift_key, images, max_shift)
    return random_flip(flip_key, images) if flip else images
