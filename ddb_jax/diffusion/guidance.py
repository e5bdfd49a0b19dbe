"""Classifier-free guidance (arXiv 2207.12598): dropping labels in training, mixing in sampling.

The null (unconditional) label is `num_classes`, one past the last class.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

# (x_t [B, ...], t int32 [B], labels int32 [B]) -> output [B, ...]
ApplyFn = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def drop_labels(
    key: jax.Array, labels: jax.Array, num_classes: int, rate: float, unit: str = "example"
) -> jax.Array:
    """Replaces labels by the null label with probability `rate`.

    Args:
      key: a random key.
      labels: int32 [B], 0..num_classes-1.
      num_classes: number of classes, which is also the null label.
      rate: a Python float in [0, 1].
      unit: "example" draws for each example; "batch" draws once and drops all labels or none,
        as the code that DDB builds on does (same expectation, higher gradient variance).

    Returns:
      int32 [B].

    Raises:
      ValueError: rate outside [0, 1], or unknown unit.
    """
    if not 0.0 <= rate <= 1.0:
        raise ValueError(f"label dropout is {rate}; it must lie in [0, 1]")
    if unit not in ("example", "batch"):
        raise ValueError(f"unknown label dropout unit {unit!r}; choose one of: example, batch")
    labels = labels.astype(jnp.int32)
    if rate == 0.0:
        return labels
    drop = jax.random.bernoulli(key, rate, labels.shape if unit == "example" else ())
    return jnp.where(drop, jnp.int32(num_classes), labels)


def guided(apply_fn: ApplyFn, guidance_scale: float, num_classes: int) -> ApplyFn:
    """The guided network: uncond + s (cond - uncond), with s = guidance_scale.

    s = 1 is plain conditional and s = 0 unconditional sampling; either costs one evaluation of B
    examples, any other s one evaluation of 2B. DDB and arXiv 2207.12598 write
    (1 + w) cond - w uncond, which is s = 1 + w: their w = 1 is s = 2, their w = 0 is s = 1.

    Args:
      apply_fn: the network, (x_t [B, ...], t int32 [B], labels int32 [B]) -> output [B, ...].
      guidance_scale: a Python float.
      num_classes: number of classes, which is also the null label.

    Returns:
      A function with apply_fn's signature; float32 output where it mixes two branches.
    """

    def unconditional(x: jax.Array, t: jax.Array, labels: jax.Array) -> jax.Array:
        return apply_fn(x, t, jnp.full_like(labels, num_classes))

    def mixed(x: jax.Array, t: jax.Array, labels: jax.Array) -> jax.Array:
        # The two branches of an example are neighbours, so that a batch split over devices is
        # doubled in place; two halves end to end would have to be moved between devices.
        pairs = jnp.stack([labels, jnp.full_like(labels, num_classes)], axis=1)
        output = apply_fn(jnp.repeat(x, 2, axis=0), jnp.repeat(t, 2, axis=0), pairs.reshape(-1))
        output = output.astype(jnp.float32).reshape(x.shape[0], 2, *output.shape[1:])
        cond, uncond = output[:, 0], output[:, 1]
        return uncond + guidance_scale * (cond - uncond)

    if guidance_scale == 1.0:
        return apply_fn
    if guidance_scale == 0.0:
        return unconditional
    return mixed
