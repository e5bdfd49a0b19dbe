"""The variance-preserving noise schedule x_t = alpha_t x_start + sigma_t eps.

Tables are float64 NumPy on the host; jitted code takes float32 constants from them.
"""

import dataclasses
import functools

import numpy as np

SCHEDULES = ("linear", "cosine")


@dataclasses.dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """A discrete schedule, given by its betas.

    Compared and hashed by identity, so that it can be a static argument of `jax.jit`.

    Attributes:
      betas: float64 [T], each inside (0, 1); index t is the step from t - 1 to t, where "-1" is
        the clean image.

    Raises:
      ValueError: betas are not a vector of numbers inside (0, 1).
    """

    betas: np.ndarray

    def __post_init__(self) -> None:
        betas = np.asarray(self.betas, np.float64)
        if betas.ndim != 1 or betas.size == 0 or not np.all((betas > 0) & (betas < 1)):
            raise ValueError("betas must be a non-empty vector of numbers strictly inside (0, 1)")
        object.__setattr__(self, "betas", betas)

    @property
    def num_timesteps(self) -> int:
        """T; timesteps are 0..T-1, and 0 is the least noisy."""
        return len(self.betas)

    @functools.cached_property
    def alphas_cumprod(self) -> np.ndarray:
        """Share of the signal's variance left at t, prod(1 - betas[:t+1]), float64 [T]."""
        return np.cumprod(1.0 - self.betas)

    @functools.cached_property
    def alpha(self) -> np.ndarray:
        """Scale of the signal, sqrt(alphas_cumprod), float64 [T]."""
        return np.sqrt(self.alphas_cumprod)

    @functools.cached_property
    def sigma(self) -> np.ndarray:
        """Scale of the noise, sqrt(1 - alphas_cumprod), float64 [T]."""
        return np.sqrt(1.0 - self.alphas_cumprod)

    @functools.cached_property
    def log_snr(self) -> np.ndarray:
        """ln(alpha^2 / sigma^2), float64 [T]; twice the lambda of the DPM-Solver papers."""
        return np.log(self.alphas_cumprod) - np.log1p(-self.alphas_cumprod)


def linear_schedule(num_timesteps: int, beta_start: float, beta_end: float) -> NoiseSchedule:
    """Betas evenly spaced from beta_start to beta_end, both included (arXiv 2006.11239).

    Betas are per step and are not rescaled: with fewer steps the last image keeps more signal.
    """
    return NoiseSchedule(np.linspace(beta_start, beta_end, num_timesteps, dtype=np.float64))


def cosine_schedule(num_timesteps: int, s: float = 0.008, max_beta: float = 0.999) -> NoiseSchedule:
    """The cosine schedule, alphas_cumprod ~ cos^2 (arXiv 2102.09672, equation 17)."""
    u = np.arange(num_timesteps + 1, dtype=np.float64) / num_timesteps
    f = np.cos((u + s) / (1.0 + s) * np.pi / 2.0) ** 2
    return NoiseSchedule(np.minimum(1.0 - f[1:] / f[:-1], max_beta))


def make_schedule(
    name: str, num_timesteps: int, beta_start: float, beta_end: float
) -> NoiseSchedule:
    """The schedule called `name`: "linear", or "cosine", which has no use for the two betas.

    Raises:
      ValueError: unknown name.
    """
    if name == "linear":
        return linear_schedule(num_timesteps, beta_start, beta_end)
    if name == "cosine":
        return cosine_schedule(num_timesteps)
    raise ValueError(f"unknown noise schedule {name!r}; choose one of: {', '.join(SCHEDULES)}")
