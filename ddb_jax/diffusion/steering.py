"""Sampling away from a classifier's opinion, or from a model's: functions from model to model.

Both compose with `guidance.guided` and with every sampler, since what they return is again the
network's output, eps or v. Images are float32 [B, H, W, C] in [-1, 1].
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ddb_jax.diffusion.gaussian import predict_x_start
from ddb_jax.diffusion.guidance import ApplyFn
from ddb_jax.diffusion.noise_schedule import NoiseSchedule

# (x_start [B, H, W, C], labels int32 [B]) -> log(p / (1 - p)) float32 [B], p being the probability
# of what is wanted. An image's value must not depend on the others of its batch.
LogOddsFn = Callable[[jax.Array, jax.Array], jax.Array]


def log_odds_against(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Log-odds that a classifier gives to "not this label", float32 [B].

    ln((1 - p) / p) with p the label's probability. Unlike the cross-entropy -ln p it has a gradient
    of useful size where p rounds to 1, which is where steering begins.

    Args:
      logits: [B, K], K >= 2.
      labels: int32 [B], 0..K-1.
    """
    logits = logits.astype(jnp.float32)
    is_label = jax.nn.one_hot(labels, logits.shape[1], dtype=bool)
    others = jax.nn.logsumexp(jnp.where(is_label, -jnp.inf, logits), axis=1)
    return others - jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]


def output_for(
    schedule: NoiseSchedule, x_t: jax.Array, t: jax.Array, x_start: jax.Array, prediction: str
) -> jax.Array:
    """The output that stands for x_start: the inverse of `gaussian.predict_x_start`.

    eps = (x_t - alpha x_start) / sigma and v = (alpha x_t - x_start) / sigma, float32 [B, ...].

    Raises:
      ValueError: unknown prediction type.
    """
    if prediction not in ("eps", "v"):
        raise ValueError(f"unknown prediction type {prediction!r}; choose one of: eps, v")
    alpha, sigma = _per_image(schedule.alpha, t, x_t), _per_image(schedule.sigma, t, x_t)
    if prediction == "eps":
        return (x_t - alpha * x_start) / sigma
    return (alpha * x_t - x_start) / sigma


def steered(
    apply_fn: ApplyFn,
    log_odds_fn: LogOddsFn,
    schedule: NoiseSchedule,
    scale: float,
    *,
    prediction: str,
    clip_x_start: bool = True,
) -> ApplyFn:
    """The network, its clean image moved up the gradient of log_odds_fn at every step.

    x_start + scale sigma_t (1 - p) g / rms(g), with p the probability of what is wanted and g the
    gradient of its log-odds by x_start, takes the place of x_start: (1 - p) g is the gradient of
    ln p, as in classifier guidance (arXiv 2105.05233), but on the predicted clean image (universal
    guidance, arXiv 2302.07121) and without the size of g, which differs by orders of magnitude
    between classifiers and timesteps. The image is pushed for as long as the classifier is not
    convinced; without the factor 1 - p it would be pushed until its class is lost. sigma_t reduces
    the push as the image becomes clean, else a perturbation stays that only the classifier sees.

    The gradient does not pass through the network: that would be most of the cost.

    Args:
      apply_fn: the network, guided already: (x_t, t int32 [B], labels int32 [B]) -> output.
      log_odds_fn: sees x_start and the labels, see LogOddsFn.
      schedule: the noise schedule the network was trained with.
      scale: a Python float; root mean square of the push per sigma_t, 0 is none.
      prediction: what the network predicts, "eps" or "v".
      clip_x_start: clip x_start to [-1, 1] before log_odds_fn sees it; as in `samplers.sample`.

    Returns:
      A function with apply_fn's signature, apply_fn itself where scale is 0; float32 output.

    Raises:
      ValueError: unknown prediction type.
    """
    if prediction not in ("eps", "v"):
        raise ValueError(f"unknown prediction type {prediction!r}; choose one of: eps, v")
    if scale == 0.0:
        return apply_fn

    def steered_fn(x_t: jax.Array, t: jax.Array, labels: jax.Array) -> jax.Array:
        x_start = predict_x_start(schedule, x_t, t, apply_fn(x_t, t, labels), prediction)
        if clip_x_start:
            x_start = jnp.clip(x_start, -1.0, 1.0)
        log_odds, pull_back = jax.vjp(lambda x: log_odds_fn(x, labels), x_start)
        (gradient,) = pull_back(jnp.ones_like(log_odds))
        # sigmoid(-log_odds) is 1 - p.
        size = scale * _per_image(schedule.sigma, t, x_t) * _like(jax.nn.sigmoid(-log_odds), x_t)
        x_start = x_start + size * _unit_rms(gradient)
        return output_for(schedule, x_t, t, x_start, prediction)

    return steered_fn


def extrapolated(apply_fn: ApplyFn, other_fn: ApplyFn, scale: float) -> ApplyFn:
    """The network moved towards another: output + scale (other output - output).

    0 is the network, 1 the other, more than 1 goes beyond it, as guidance does beyond the
    conditional output (arXiv 2207.12598). Both predict the same of the same forward process.

    Args:
      apply_fn: the network, guided already: (x_t, t int32 [B], labels int32 [B]) -> output.
      other_fn: the other network, likewise.
      scale: a Python float.

    Returns:
      A function with apply_fn's signature; float32 output where it mixes the two.
    """

    def mixed(x_t: jax.Array, t: jax.Array, labels: jax.Array) -> jax.Array:
        output = apply_fn(x_t, t, labels).astype(jnp.float32)
        return output + scale * (other_fn(x_t, t, labels).astype(jnp.float32) - output)

    return {0.0: apply_fn, 1.0: other_fn}.get(float(scale), mixed)


def _per_image(values: np.ndarray, t: jax.Array, x: jax.Array) -> jax.Array:
    """values[t] in float32, with the axes of x."""
    return _like(jnp.asarray(values, jnp.float32)[t], x)


def _like(values: jax.Array, x: jax.Array) -> jax.Array:
    """Values [B] as [B, 1, ...], with as many axes as x."""
    return values.reshape(-1, *([1] * (x.ndim - 1)))


def _unit_rms(x: jax.Array) -> jax.Array:
    """Each image of [B, ...] scaled to a root mean square of 1; one that is 0 stays 0."""
    axes = tuple(range(1, x.ndim))
    largest = jnp.max(jnp.abs(x), axis=axes, keepdims=True)
    x = x / jnp.where(largest > 0.0, largest, 1.0)  # its squares could underflow
    mean_square = jnp.mean(x**2, axis=axes, keepdims=True)
    return x * jax.lax.rsqrt(jnp.where(mean_square > 0.0, mean_square, 1.0))
