"""Samplers: DDPM, DDIM and DPM-Solver++(2M) as tables of coefficients for one common step.

Every step is x <- a x + b x_start + c x_start_previous + d z, where x_start is the network's
estimate of the clean image and z fresh noise. A row costs one network evaluation.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddb_jax.diffusion.gaussian import predict_x_start
from ddb_jax.diffusion.guidance import ApplyFn
from ddb_jax.diffusion.noise_schedule import NoiseSchedule

SAMPLERS = ("ddpm", "ddim", "dpmpp_2m")
SPACINGS = ("uniform", "quadratic")
VARIANCES = ("posterior", "beta")


class SamplerTable(NamedTuple):
    """One row per step, in the order of sampling; host data, never traced.

    timesteps is int32 [S]: where the network is evaluated. a, b, c, d are float64 [S].
    """

    timesteps: np.ndarray
    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    d: np.ndarray


def spaced_timesteps(num_timesteps: int, num_steps: int, spacing: str) -> np.ndarray:
    """Strictly falling timesteps from T - 1, int32 [S]; the step after the last ends clean.

    "uniform" puts them T/S apart, counted from the noisy end ("trailing", arXiv 2305.08891), so
    that the first is always T - 1. "quadratic" does so in sqrt(t) (arXiv 2010.02502, appendix D.2),
    a finer step where there is little noise: uniform spacing jumps to the clean image from t near
    T/S, and loses the detail that is still under the noise there.

    Raises:
      ValueError: num_steps outside 1..T, or unknown spacing.
    """
    if not 1 <= num_steps <= num_timesteps:
        raise ValueError(
            f"the number of sampling steps is {num_steps}, it must be 1 to {num_timesteps}, the"
            " number of timesteps"
        )
    k = np.arange(num_steps, 0, -1)  # steps still to go
    if spacing == "uniform":
        times = (2 * num_timesteps * k + num_steps) // (2 * num_steps)
    elif spacing == "quadratic":
        # At least k, because k distinct timesteps are still needed.
        times = np.maximum(np.rint(num_timesteps * (k / num_steps) ** 2), k)
    else:
        raise ValueError(f"unknown spacing {spacing!r}; choose one of: {', '.join(SPACINGS)}")
    return (times - 1).astype(np.int32)


def ddpm_table(schedule: NoiseSchedule, variance: str = "posterior") -> SamplerTable:
    """Ancestral sampling over all T steps (arXiv 2006.11239, equations 6 and 7).

    The variance of a step is that of q(x_{t-1} | x_t, x_start) for "posterior", or beta_t for
    "beta", which is DDB's. The last step adds no noise.

    Raises:
      ValueError: unknown variance.
    """
    if variance not in VARIANCES:
        raise ValueError(
            f"unknown DDPM variance {variance!r}; choose one of: {', '.join(VARIANCES)}"
        )
    beta, ab = schedule.betas, schedule.alphas_cumprod
    ab_next = np.append(1.0, ab[:-1])
    a = np.sqrt(1.0 - beta) * (1.0 - ab_next) / (1.0 - ab)
    b = np.sqrt(ab_next) * beta / (1.0 - ab)
    d = np.sqrt(beta * (1.0 - ab_next) / (1.0 - ab)) if variance == "posterior" else np.sqrt(beta)
    d[0] = 0.0
    timesteps = np.arange(schedule.num_timesteps, dtype=np.int32)
    return SamplerTable(*(column[::-1] for column in (timesteps, a, b, np.zeros_like(a), d)))


def ddim_table(
    schedule: NoiseSchedule, num_steps: int, eta: float = 0.0, spacing: str = "uniform"
) -> SamplerTable:
    """DDIM (arXiv 2010.02502, equation 12), eps written through x and x_start.

    eta = 0 is deterministic; eta = 1 with all T steps is `ddpm_table(schedule, "posterior")`. eps
    follows x_start when that is clipped, so that x keeps the noise level of its timestep.

    Raises:
      ValueError: eta outside [0, 1], num_steps outside 1..T, or unknown spacing.
    """
    if not 0.0 <= eta <= 1.0:
        raise ValueError(f"eta is {eta}; it must lie in [0, 1]")
    timesteps = spaced_timesteps(schedule.num_timesteps, num_steps, spacing)
    ab = schedule.alphas_cumprod[timesteps]
    ab_next = np.append(ab[1:], 1.0)
    d = eta * np.sqrt((1.0 - ab_next) / (1.0 - ab) * (1.0 - ab / ab_next))
    a = np.sqrt(np.maximum(1.0 - ab_next - d**2, 0.0) / (1.0 - ab))
    b = np.sqrt(ab_next) - np.sqrt(ab) * a
    return SamplerTable(timesteps, a, b, np.zeros_like(a), d)


def dpmpp_2m_table(
    schedule: NoiseSchedule, num_steps: int, spacing: str = "quadratic"
) -> SamplerTable:
    """DPM-Solver++(2M) (arXiv 2211.01095, algorithm 2), deterministic, second order.

    The first step is first order, because it has no predecessor. The last one runs to sigma = 0,
    where the step in lambda is infinite and the first-order step is x = x_start.

    Raises:
      ValueError: num_steps outside 1..T, or unknown spacing.
    """
    timesteps = spaced_timesteps(schedule.num_timesteps, num_steps, spacing)
    alpha, sigma = schedule.alpha[timesteps], schedule.sigma[timesteps]
    h = np.diff(schedule.log_snr[timesteps] / 2.0)  # steps in lambda = ln(alpha / sigma)
    # Extrapolation D = x_start + (x_start - x_start_previous) / (2 r), with r = h_previous / h.
    extrapolation = np.append(0.0, h[1:] / (2.0 * h[:-1]))[: len(h)]
    gain = -alpha[1:] * np.expm1(-h)
    a = np.append(sigma[1:] / sigma[:-1], 0.0)
    b = np.append(gain * (1.0 + extrapolation), 1.0)
    c = np.append(-gain * extrapolation, 0.0)
    return SamplerTable(timesteps, a, b, c, np.zeros_like(a))


def make_table(
    name: str,
    schedule: NoiseSchedule,
    num_steps: int,
    eta: float = 0.0,
    *,
    spacing: str | None = None,
    variance: str = "posterior",
) -> SamplerTable:
    """The table of sampler `name`: "ddpm", "ddim" or "dpmpp_2m".

    Args:
      name: the sampler.
      schedule: the noise schedule the network was trained with.
      num_steps: 1..T network evaluations; for "ddpm" T, or 0, which means T.
      eta: "ddim" only.
      spacing: "uniform" or "quadratic"; None is the sampler's own default. Not used by "ddpm".
      variance: "posterior" or "beta", "ddpm" only.

    Raises:
      ValueError: unknown name, or a value the sampler cannot use.
    """
    if name not in SAMPLERS:
        raise ValueError(f"unknown sampler {name!r}; choose one of: {', '.join(SAMPLERS)}")
    if name != "ddim" and eta != 0.0:
        raise ValueError(f"eta is {eta}, but only the sampler ddim has an eta; set it to 0")
    if name == "ddpm":
        if num_steps not in (0, schedule.num_timesteps):
            raise ValueError(
                f"the sampler ddpm takes all {schedule.num_timesteps} steps, not {num_steps}; "
                "set the number of steps to 0, or choose ddim or dpmpp_2m"
            )
        return ddpm_table(schedule, variance)
    if name == "ddim":
        return ddim_table(schedule, num_steps, eta, spacing or "uniform")
    return dpmpp_2m_table(schedule, num_steps, spacing or "quadratic")


@functools.partial(jax.jit, static_argnames="image_shape")
def _normal(keys: jax.Array, draw: jax.Array | int, image_shape: tuple[int, ...]) -> jax.Array:
    """Draw number `draw` of each image's own noise, float32 [B, *image_shape]."""
    return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, draw), image_shape))(keys)


@functools.partial(
    jax.jit, static_argnames=("schedule", "prediction", "clip_x_start", "stochastic")
)
def _update(
    schedule: NoiseSchedule,
    x: jax.Array,
    x_start_previous: jax.Array,
    output: jax.Array,
    t: jax.Array,
    keys: jax.Array,
    draw: jax.Array,
    coefficients: tuple[jax.Array, ...],
    *,
    prediction: str,
    clip_x_start: bool,
    stochastic: bool,
) -> tuple[jax.Array, jax.Array]:
    a, b, c, d = coefficients
    x_start = predict_x_start(schedule, x, t, output, prediction)
    if clip_x_start:
        x_start = jnp.clip(x_start, -1.0, 1.0)
    x_next = a * x + b * x_start + c * x_start_previous
    if stochastic:
        x_next = x_next + d * _normal(keys, draw, x.shape[1:])
    return x_next, x_start


def sample(
    model_fn: ApplyFn,
    table: SamplerTable,
    schedule: NoiseSchedule,
    keys: jax.Array,
    labels: jax.Array,
    image_shape: tuple[int, ...],
    *,
    prediction: str,
    clip_x_start: bool = True,
) -> jax.Array:
    """Draws one image per key, all steps in one scan; to be jitted by the caller.

    An image depends on its key, its label and the table alone, not on its place in the batch or on
    the batch size: x_T is normal noise from fold_in(key, 0), row i's from fold_in(key, i + 1).
    (True of JAX's default threefry keys; other implementations batch their bits differently.)

    Args:
      model_fn: the network, guided already: (x_t, t int32 [B], labels int32 [B]) -> output.
      table: from `make_table`, for this schedule.
      schedule: the noise schedule the network was trained with.
      keys: typed keys [B], one per image.
      labels: int32 [B].
      image_shape: (H, W, C).
      prediction: what the network predicts, "eps" or "v".
      clip_x_start: clip each estimate of the clean image to [-1, 1].

    Returns:
      float32 [B, *image_shape]; in [-1, 1] if clipped and the last row is x = x_start, as it is in
      every table here.

    Raises:
      ValueError: keys are not typed keys [B], labels are not [B], or an unknown prediction.
    """
    if not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key) or keys.ndim != 1:
        raise ValueError("keys must be a vector of typed keys, one per image (see jax.random.key)")
    if labels.shape != keys.shape:
        raise ValueError(f"labels have shape {labels.shape}, but there are {keys.shape[0]} keys")

    update = functools.partial(
        _update,
        schedule,
        prediction=prediction,
        clip_x_start=clip_x_start,
        stochastic=bool(np.any(table.d)),  # known on the host: no noise is drawn for nothing
    )

    def step(carry: tuple[jax.Array, jax.Array], row: tuple) -> tuple[tuple, None]:
        x, x_start_previous = carry
        timestep, draw, *coefficients = row
        t = jnp.full(keys.shape, timestep, jnp.int32)
        output = model_fn(x, t, labels)
        return update(x, x_start_previous, output, t, keys, draw, tuple(coefficients)), None

    draws = np.arange(1, len(table.timesteps) + 1, dtype=np.int32)
    coefficients = [np.asarray(column, np.float32) for column in table[1:]]
    rows = (np.asarray(table.timesteps, np.int32), draws, *coefficients)
    x = _normal(keys, 0, tuple(image_shape))
    (x, _), _ = jax.lax.scan(step, (x, jnp.zeros_like(x)), rows)
    return x
