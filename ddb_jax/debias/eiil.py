"""Environment inference for invariant learning (Creager et al., ICML 2021).

The training set is split into the two environments between which a biased model differs most.
"""

import functools
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddb_jax.debias.losses import cross_entropy, masked_mean


class EIILSettings(Protocol):
    """Settings of environment inference; the values named are the released code's.

    Attributes:
        num_steps: Steps of Adam on the assignment, 10,000.
        learning_rate: Its learning rate, 0.001.
    """

    num_steps: int
    learning_rate: float


def scale_gradient(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Derivative of each example's CE of scale * logits with respect to the scale, at scale 1.

    It is negative where the model is right and would gain by being surer.

    Args:
        logits: float [N, K].
        labels: int [N] in 0..K-1.

    Returns:
        float32 [N].
    """
    logits = jnp.asarray(logits, jnp.float32)
    one = jnp.float32(1.0)
    return jax.jvp(lambda scale: cross_entropy(scale * logits, labels), (one,), (one,))[1]


def environment_penalty(assignment: jax.Array, gradient: jax.Array) -> jax.Array:
    """Mean over both environments of the squared gradient of the environment's risk.

    An environment's risk is (1 / N) sum_i q_i CE_i over all N examples, q_i being the assignment
    to it, as in the paper (section 3.1) and its code; it is not divided by the environment's size.

    Args:
        assignment: float [N] in 0..1, to the first environment; the rest is the second's.
        gradient: float [N], from `scale_gradient`.
    """
    first = jnp.mean(assignment * gradient)
    second = jnp.mean((1.0 - assignment) * gradient)
    return (first**2 + second**2) / 2.0


def infer_environments(
    settings: EIILSettings, logits: np.ndarray, labels: np.ndarray, seed: int
) -> np.ndarray:
    """A soft assignment to two environments that maximises `environment_penalty`.

    The assignment is the sigmoid of one number per example, from a standard normal start. Adam is
    indifferent to the objective's scale except for its epsilon, next to which gradients of a large
    set or of a well fitted one vanish; so the scale gradients are divided by their root mean
    square and the penalty multiplied by N.

    Args:
        logits: float [N, K], of a biased model (the paper: plain training, stopped early).
        labels: int [N] in 0..K-1.
        seed: Seed of the initial assignment.

    Returns:
        float32 [N] in 0..1; above 0.5 is the environment of the higher mean CE, the examples that
        conflict with what the model relies on. If all fall into one environment, or all logits are
        0, none is above.

    Raises:
        ValueError: A setting is out of range, no examples, lengths that differ, or logits that are
            not finite.
    """
    if settings.num_steps < 1:
        raise ValueError(f"num_steps of EIIL is {settings.num_steps}; it must be at least 1.")
    if not settings.learning_rate > 0:
        raise ValueError(f"learning_rate of EIIL is {settings.learning_rate}; it must be positive.")
    if not len(logits) == len(labels) > 0:
        raise ValueError(
            "EIIL needs one label for each of its examples, and got"
            f" {len(logits)} rows of logits and {len(labels)} labels."
        )
    if not np.isfinite(logits).all():
        raise ValueError("EIIL's logits are not all finite.")
    return np.asarray(
        _infer(
            jnp.asarray(logits, jnp.float32),
            jnp.asarray(labels, jnp.int32),
            jax.random.key(seed),
            settings.learning_rate,
            settings.num_steps,
        )
    )


@functools.partial(jax.jit, static_argnames="num_steps")
def _infer(
    logits: jax.Array,
    labels: jax.Array,
    key: jax.Array,
    learning_rate: jax.Array,
    num_steps: int,
) -> jax.Array:
    gradient = scale_gradient(logits, labels)
    size = jnp.sqrt(jnp.mean(gradient**2))
    gradient = gradient / jnp.where(size > 0, size, 1.0)
    optimizer = optax.adam(learning_rate)

    def loss(start: jax.Array) -> jax.Array:
        return -len(start) * environment_penalty(jax.nn.sigmoid(start), gradient)

    def step(
        carry: tuple[jax.Array, optax.OptState], _: None
    ) -> tuple[tuple[jax.Array, optax.OptState], None]:
        raw, state = carry
        updates, state = optimizer.update(jax.grad(loss)(raw), state)
        return (optax.apply_updates(raw, updates), state), None

    start = jax.random.normal(key, labels.shape)
    (raw, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), length=num_steps)
    first = raw > 0
    losses = cross_entropy(logits, labels)
    harder = masked_mean(losses, first) > masked_mean(losses, ~first)
    # An environment that contains everything does not count as the conflicting one.
    keep = harder & ~jnp.all(first) | ~jnp.any(first)
    return jnp.where(size > 0, jax.nn.sigmoid(jnp.where(keep, raw, -raw)), 0.5)
