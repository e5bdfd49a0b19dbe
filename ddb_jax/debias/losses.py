"""Per-example classification losses, cross-entropy and generalised cross-entropy, and means."""

import jax
import jax.numpy as jnp


def cross_entropy(logits: jax.Array, labels: jax.Array, label_smoothing: float = 0.0) -> jax.Array:
    """Negative log-probability of the label.

    Args:
        logits: [B, K], any float dtype; computed in float32.
        labels: int [B] in 0..K-1.
        label_smoothing: Share of the target that is spread evenly over all K classes
            (Szegedy et al., CVPR 2016, section 7).

    Returns:
        float32 [B], never negative.
    """
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    loss = -jnp.take_along_axis(log_probs, labels[:, None], axis=-1)[:, 0]
    if label_smoothing:
        loss = (1.0 - label_smoothing) * loss - label_smoothing * jnp.mean(log_probs, axis=-1)
    return loss


def check_gce(q: float, scaled: bool, *, owner: str, prefix: str = "gce_") -> None:
    """Refuse settings of the generalised cross-entropy that it is not defined for.

    Args:
        q: As in `generalized_cross_entropy`.
        scaled: Likewise.
        owner: Whose settings they are, for the message.
        prefix: Of the two settings' names.

    Raises:
        ValueError: q lies outside [0, 1], or is 0 with `scaled`, whose loss would be 0.
    """
    if not 0.0 <= q <= 1.0:
        raise ValueError(f"{prefix}q of {owner} is {q}; it must lie in [0, 1].")
    if scaled and q == 0.0:
        raise ValueError(
            f"{prefix}q of {owner} is {q}, with {prefix}scaled a loss of 0 everywhere; it must be"
            " above 0."
        )


def generalized_cross_entropy(
    logits: jax.Array, labels: jax.Array, q: float, *, scaled: bool = False
) -> jax.Array:
    """Generalised cross-entropy (1 - p^q) / q, p being the label's probability.

    Its gradient is p^q times that of cross-entropy, so confident examples count more
    (Zhang and Sabuncu, NeurIPS 2018, eq. 6). q = 1 is 1 - p; q = 0 is cross-entropy, the limit.

    Args:
        logits: [B, K], any float dtype; computed in float32.
        labels: int [B] in 0..K-1.
        q: In [0, 1]; LfF (Nam et al., NeurIPS 2020) uses 0.7.
        scaled: Use the form of LfF's released code, stop_gradient(q p^q) times cross-entropy. Its
            gradient is q times that of the true loss; its value is another one.

    Returns:
        float32 [B].

    Raises:
        ValueError: q lies outside [0, 1], or is 0 with `scaled`, whose loss would be 0.
    """
    check_gce(q, scaled, owner="the generalised cross-entropy", prefix="")
    return generalize(cross_entropy(logits, labels), q, scaled=scaled)


def generalize(loss: jax.Array, q: float, *, scaled: bool) -> jax.Array:
    """The generalised cross-entropy of what has this negative log-probability, of any shape.

    q and `scaled` as in `generalized_cross_entropy`, which checks them.
    """
    if q == 0.0:
        return loss
    # p^q = exp(-q CE) and expm1 keep value and gradient finite at p -> 0 and exact at small q.
    if scaled:
        return jax.lax.stop_gradient(q * jnp.exp(-q * loss)) * loss
    return -jnp.expm1(-q * loss) / q


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Share of the batch whose most probable class is the label, a scalar without gradient."""
    return jnp.mean(jnp.argmax(logits, axis=-1) == labels)


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of values [B] over the examples of mask [B] (bool, or 0 and 1); 0 if there is none."""
    mask = mask.astype(values.dtype)
    return jnp.sum(mask * values) / jnp.maximum(jnp.sum(mask), 1.0)
