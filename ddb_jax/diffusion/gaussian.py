"""The forward process q(x_t | x_start), what the network predicts of it, and the training loss.

Images are float32 [B, H, W, C] in [-1, 1]; t is int32 [B], 0..T-1. `prediction` names the network's
output: "eps", or "v" = alpha eps - sigma x_start (arXiv 2202.00512, appendix D).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddb_jax.diffusion.guidance import ApplyFn, drop_labels
from ddb_jax.diffusion.noise_schedule import NoiseSchedule


def _at(values: np.ndarray, t: jax.Array, ndim: int) -> jax.Array:
    """values[t] in float32, shaped [B, 1, ...] with `ndim` axes."""
    return jnp.asarray(values, jnp.float32)[t].reshape(-1, *([1] * (ndim - 1)))


def _check_prediction(prediction: str) -> None:
    if prediction not in ("eps", "v"):
        raise ValueError(f"unknown prediction type {prediction!r}; choose one of: eps, v")


def q_sample(
    schedule: NoiseSchedule, x_start: jax.Array, t: jax.Array, eps: jax.Array
) -> jax.Array:
    """x_t = alpha_t x_start + sigma_t eps (arXiv 2006.11239, equation 4), float32 [B, ...]."""
    alpha, sigma = _at(schedule.alpha, t, x_start.ndim), _at(schedule.sigma, t, x_start.ndim)
    return alpha * x_start + sigma * eps


def predict_x_start(
    schedule: NoiseSchedule, x_t: jax.Array, t: jax.Array, output: jax.Array, prediction: str
) -> jax.Array:
    """The clean image that the network's output stands for, float32 [B, ...], not clipped.

    Raises:
      ValueError: unknown prediction type.
    """
    _check_prediction(prediction)
    alpha, sigma = _at(schedule.alpha, t, x_t.ndim), _at(schedule.sigma, t, x_t.ndim)
    output = output.astype(jnp.float32)
    if prediction == "eps":
        return (x_t - sigma * output) / alpha
    return alpha * x_t - sigma * output


def training_target(
    schedule: NoiseSchedule, x_start: jax.Array, t: jax.Array, eps: jax.Array, prediction: str
) -> jax.Array:
    """What the network should output, float32 [B, ...].

    Raises:
      ValueError: unknown prediction type.
    """
    _check_prediction(prediction)
    if prediction == "eps":
        return eps
    return _at(schedule.alpha, t, eps.ndim) * eps - _at(schedule.sigma, t, eps.ndim) * x_start


def min_snr_weight(
    schedule: NoiseSchedule, t: jax.Array, gamma: float, prediction: str
) -> jax.Array:
    """Min-SNR loss weight (arXiv 2303.09556), float32 [B].

    min(SNR, gamma) / SNR for "eps" and min(SNR, gamma) / (SNR + 1) for "v": both weight the squared
    error of x_start by min(SNR, gamma). gamma <= 0 turns it off: weight 1.

    Raises:
      ValueError: unknown prediction type.
    """
    _check_prediction(prediction)
    if gamma <= 0.0:
        return jnp.ones(t.shape, jnp.float32)
    snr = np.exp(schedule.log_snr)
    weight = np.minimum(snr, gamma) / (snr if prediction == "eps" else snr + 1.0)
    return _at(weight, t, 1)


class NoisedBatch(NamedTuple):
    """What the network is given and what it should answer.

    Attributes:
        x_t: float32 [B, H, W, C], the noised images.
        t: int32 [B].
        label: int32 [B], the null label where it was dropped.
        target: float32 [B, H, W, C], what the network should output.
        weight: float32 [B], of each example's squared error.
    """

    x_t: jax.Array
    t: jax.Array
    label: jax.Array
    target: jax.Array
    weight: jax.Array


def noise_batch(
    schedule: NoiseSchedule,
    key: jax.Array,
    x_start: jax.Array,
    labels: jax.Array,
    *,
    num_classes: int,
    prediction: str = "eps",
    label_dropout: float = 0.1,
    label_dropout_unit: str = "example",
    min_snr_gamma: float = 0.0,
) -> NoisedBatch:
    """All that is random in a training step, drawn for the whole batch.

    A batch computed in parts therefore sees the same random numbers as a whole batch.

    Args:
      schedule: the noise schedule.
      key: a random key; timesteps, noise and dropped labels all come from it.
      x_start: float32 [B, H, W, C] in [-1, 1].
      labels: int32 [B], 0..num_classes-1.
      num_classes: number of classes, which is also the null label.
      prediction: "eps" or "v".
      label_dropout: probability of the null label, a Python float.
      label_dropout_unit: "example" or "batch", see `guidance.drop_labels`.
      min_snr_gamma: see `min_snr_weight`; 0 weights all timesteps alike.

    Returns:
      The batch, t being uniform on 0..T-1 for each example.

    Raises:
      ValueError: unknown prediction type or dropout unit, or dropout outside [0, 1].
    """
    t_key, eps_key, drop_key = jax.random.split(key, 3)
    t = jax.random.randint(t_key, labels.shape, 0, schedule.num_timesteps, jnp.int32)
    eps = jax.random.normal(eps_key, x_start.shape, jnp.float32)
    return NoisedBatch(
        x_t=q_sample(schedule, x_start, t, eps),
        t=t,
        label=drop_labels(drop_key, labels, num_classes, label_dropout, label_dropout_unit),
        target=training_target(schedule, x_start, t, eps, prediction),
        weight=min_snr_weight(schedule, t, min_snr_gamma, prediction),
    )


def denoising_loss(apply_fn: ApplyFn, batch: NoisedBatch) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The denoising loss of arXiv 2006.11239 (equation 14), labels dropped for guidance.

    Args:
      apply_fn: the network, (x_t [B, H, W, C], t int32 [B], labels int32 [B]) -> [B, H, W, C].
      batch: what `noise_batch` drew.

    Returns:
      The loss, a float32 scalar: mean over examples of the (weighted) mean squared error per
      element. And metrics: "loss", and "mse" without weights.
    """
    error = apply_fn(batch.x_t, batch.t, batch.label).astype(jnp.float32) - batch.target
    mse = jnp.mean(error**2, axis=tuple(range(1, error.ndim)))
    loss = jnp.mean(batch.weight * mse)
    return loss, {"loss": loss, "mse": jnp.mean(mse)}
