"""Relative difficulty: how hard an example is for a biased model rather than for the debiased one.

The weight of Learning from Failure (Nam et al., NeurIPS 2020, eq. 2, and its released code), which
DDB's Recipe II shares, and the running averages of per-example losses that enter it.
"""

import jax
import jax.numpy as jnp
import numpy as np

EPSILON = 1e-8
NOT_SEEN = -1.0  # a cross-entropy is never negative


def relative_difficulty(biased_loss: jax.Array, loss: jax.Array) -> jax.Array:
    """Weight l_b / (l_b + l_d + 1e-8) in [0, 1]; high where only the biased model fails.

    Args:
        biased_loss: l_b, float32 [B], loss of the biased model, not negative.
        loss: l_d, float32 [B], loss of the debiased model, not negative.

    Returns:
        float32 [B].
    """
    return biased_loss / (biased_loss + loss + EPSILON)


def new_memory(num_examples: int) -> jax.Array:
    """Memory of a training set of which nothing was seen, float32 [N]."""
    return jnp.full((num_examples,), NOT_SEEN, jnp.float32)


def update_memory(memory: jax.Array, index: jax.Array, loss: jax.Array, ema: float) -> jax.Array:
    """Running average per example; the first visit stores the loss itself.

    Args:
        memory: float32 [N], NOT_SEEN where an example was never visited.
        index: int32 [B], positions of the batch's examples. Where one stands in the batch twice,
            one of its losses is stored.
        loss: float32 [B], not negative.
        ema: alpha, in [0, 1).

    Returns:
        float32 [N].
    """
    old = memory[index]
    return memory.at[index].set(jnp.where(old < 0, loss, ema * old + (1.0 - ema) * loss))


def share_of_class_maximum(
    memory: jax.Array, labels: jax.Array, index: jax.Array, num_classes: int
) -> jax.Array:
    """The memory of some examples, divided by the largest of the training set in their class.

    Args:
        memory: float32 [N].
        labels: int32 [N].
        index: int32 [B].
        num_classes: Number of classes.

    Returns:
        float32 [B]; maxima are enlarged by 1e-8, so that a class fitted to a loss of 0 divides by
        no zero.
    """
    maximum = jax.ops.segment_max(memory, labels, num_classes)
    return memory[index] / (maximum[labels[index]] + EPSILON)


def class_maximum(values: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """float32 [K], the largest of the non-negative values [N] of each class; 0 for an empty one."""
    maximum = np.zeros(num_classes, np.float32)
    np.maximum.at(maximum, labels, values)
    return maximum
