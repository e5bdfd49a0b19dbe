"""Gradient accumulation: a batch cut into parts that are computed one after the other."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def split_batch(batch: Any, parts: int) -> Any:
    """Arrays [B, ...] as [parts, B / parts, ...]; part i holds the examples i, i + parts, ...

    Neighbours go to different parts, so that each device keeps its own examples of a split batch.
    Contiguous parts would have to be moved between devices.
    """
    return jax.tree.map(
        lambda x: jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0),
        batch,
    )


def join_parts(parts: Any) -> Any:
    """The inverse of `split_batch`: arrays [parts, B / parts, ...] as [B, ...]."""
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[2:]), parts)


def sum_gradients(
    gradients_of: Callable[[Any, Any], tuple[Any, Any, Any]], like: Any, carry: Any, parts: Any
) -> tuple[Any, Any, Any]:
    """Sum of the gradients over the parts; one part at a time is in memory.

    Args:
        gradients_of: (carry, part) -> gradients of this part, the next carry, any outputs.
        like: A tree of the gradients' shapes, such as the parameters.
        carry: Initial carry.
        parts: A tree of arrays whose first axis counts the parts.

    Returns:
        The sum, the last carry, and the outputs of all parts, stacked along a first axis.
    """

    def one(accumulated: tuple[Any, Any], part: Any) -> tuple[tuple[Any, Any], Any]:
        total, carry = accumulated
        gradients, carry, outputs = gradients_of(carry, part)
        return (jax.tree.map(jnp.add, total, gradients), carry), outputs

    zeros = jax.tree.map(jnp.zeros_like, like)
    (total, carry), outputs = jax.lax.scan(one, (zeros, carry), parts)
    return total, carry, outputs
