"""Supervised contrastive learning: the probability that an example picks another of its batch.

Khosla et al., "Supervised contrastive learning" (NeurIPS 2020), eq. 2 (L_out). Which examples are
an anchor's positives, and how much each counts, is up to the caller.
"""

import jax
import jax.numpy as jnp


def similarities(features: jax.Array) -> jax.Array:
    """Inner products of all pairs, float32 [B, B], of features [B, D]."""
    features = features.astype(jnp.float32)
    # Accelerators round the operands of a float32 product by default, to an error that a small
    # temperature enlarges.
    return jnp.matmul(features, features.T, precision=jax.lax.Precision.HIGHEST)


def log_probabilities(projections: jax.Array, temperature: float) -> jax.Array:
    """log of exp(z_i z_j / temperature) / sum over k != i of exp(z_i z_k / temperature).

    Args:
        projections: z, [B, D], of unit length.
        temperature: Above 0.

    Returns:
        float32 [B, B], row i the anchor's; never positive, and 0 on the diagonal, where there is
        no such probability.
    """
    oneself = jnp.eye(len(projections), dtype=bool)
    logits = similarities(projections) / temperature
    # A finite number: with minus infinity a batch of one would pass through NaN.
    logits = jnp.where(oneself, jnp.finfo(jnp.float32).min, logits)
    return jnp.where(oneself, 0.0, jax.nn.log_softmax(logits))


def mean_over_positives(values: jax.Array, weight: jax.Array) -> jax.Array:
    """Weighted mean of every row of values, float32 [B]; 0 for an anchor without a positive.

    Args:
        values: float32 [B, B].
        weight: [B, B], bool or not negative: what every example counts as the row's positive.
    """
    weight = weight.astype(values.dtype)
    total = jnp.sum(weight, axis=1)
    return jnp.sum(weight * values, axis=1) / jnp.where(total > 0, total, 1.0)


def same(values: jax.Array) -> jax.Array:
    """bool [B, B], which examples have the same of the values [B]."""
    return values[:, None] == values[None, :]
