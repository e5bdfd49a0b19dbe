"""Relative difficulty: how hard an example is for a biased model rather than for the debiased one.

The weight of Learning from Failure (Nam et al., NeurIPS 2020, eq. 2, and its released code), which
DDB's Recipe II shares, and the running averages of per-example losses that enter it.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ddb_jax.debias.contract import State

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
    """Memory of a training set before any example was seen, float32 [N]."""
    return jnp.full((num_examples,), NOT_SEEN, jnp.float32)


def update_memory(memory: jax.Array, index: jax.Array, loss: jax.Array, ema: float) -> jax.Array:
    """Running average per example; the first visit stores the loss itself.

    Args:
        memory: float32 [N], NOT_SEEN where an example was never visited.
        index: int32 [B], positions of the batch's examples. If one occurs twice in the batch, one
            of its losses is stored.
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
        float32 [B]; maxima are enlarged by 1e-8, to avoid a division by zero for a class with a
        loss of 0.
    """
    maximum = jax.ops.segment_max(memory, labels, num_classes)
    return memory[index] / (maximum[labels[index]] + EPSILON)


def class_maximum(values: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """float32 [K], the largest of the non-negative values [N] of each class; 0 for an empty one."""
    maximum = np.zeros(num_classes, np.float32)
    np.maximum.at(maximum, labels, values)
    return maximum


def init_memories(labels: np.ndarray, biased_loss: np.ndarray | None = None) -> State:
    """The memories of both models; the biased one's is filled if it is frozen and its loss known.

    Args:
        labels: int [N].
        biased_loss: float [N], not negative; None where nothing is known yet.
    """
    unknown = new_memory(len(labels))
    return {
        "biased_memory": unknown if biased_loss is None else jnp.asarray(biased_loss, jnp.float32),
        "memory": new_memory(len(labels)),
        # In the state: as a constant it would add N numbers to the compiled training step.
        "labels": jnp.asarray(labels, jnp.int32),
    }


def weigh(
    memories: State,
    index: jax.Array,
    biased_loss: jax.Array,
    loss: jax.Array,
    ema: float,
    num_classes: int,
) -> tuple[jax.Array, State]:
    """Learning from Failure's weight of a batch, and the memories after it.

    Args:
        memories: From `init_memories`.
        index: int32 [B].
        biased_loss: float32 [B], cross-entropy of the biased model.
        loss: float32 [B], cross-entropy of the debiased model.
        ema: alpha of the running averages, in [0, 1).
        num_classes: Number of classes.

    Returns:
        float32 [B] in [0, 1], without gradient, and the new memories.
    """
    new = dict(memories)
    for name, value in (("biased_memory", biased_loss), ("memory", loss)):
        new[name] = update_memory(memories[name], index, jax.lax.stop_gradient(value), ema)
    shares = (
        share_of_class_maximum(new[name], new["labels"], index, num_classes)
        for name in ("biased_memory", "memory")
    )
    return relative_difficulty(*shares), new


def final_weights(memories: State, num_classes: int) -> jax.Array:
    """The weight of every training example by its memories, float32 [N]; 0 where never visited."""
    index = jnp.arange(len(memories["labels"]))
    biased, own = (
        share_of_class_maximum(memories[name], memories["labels"], index, num_classes)
        for name in ("biased_memory", "memory")
    )
    seen = (memories["biased_memory"] >= 0) & (memories["memory"] >= 0)
    return jnp.where(seen, relative_difficulty(biased, own), 0.0)
