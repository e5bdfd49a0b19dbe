"""Images of Gaussian pixels, whose exact network and probability flow are known."""

import jax
import jax.numpy as jnp
import numpy as np

from ddb_jax.diffusion import samplers
from ddb_jax.diffusion.noise_schedule import linear_schedule

SHAPE = (2, 2, 1)
DDB = linear_schedule(1000, 1e-4, 0.028)
MU, STD = 0.3, 0.5


def gaussian_eps(alpha, sigma, x, mu=MU, std=STD):
    """E[eps | x_t] for images whose pixels are N(mu, std^2)."""
    return sigma * (x - alpha * mu) / (alpha**2 * std**2 + sigma**2)


def exact_network(schedule, mu=MU, std=STD):
    alpha, sigma = (jnp.asarray(v, jnp.float32) for v in (schedule.alpha, schedule.sigma))

    def network(x, t, labels):
        a, s = (v[t].reshape(-1, 1, 1, 1) for v in (alpha, sigma))
        return gaussian_eps(a, s, x, mu, std)

    return network


def probability_flow(schedule, x, mu=MU, std=STD):
    """x_0 reached from x_T: the flow keeps (x_t - mean_t) / std_t constant for Gaussian data."""
    alpha, sigma = schedule.alpha[-1], schedule.sigma[-1]
    return mu + std * (x - alpha * mu) / np.sqrt(alpha**2 * std**2 + sigma**2)


def run_in_numpy(table, schedule, x, mu=MU, std=STD):
    """The deterministic part of a table in float64, with the exact network."""
    x_start = np.zeros_like(x)
    for t, a, b, c, _ in zip(*table, strict=True):
        alpha, sigma = schedule.alpha[t], schedule.sigma[t]
        before, x_start = (
            x_start,
            (x - sigma * gaussian_eps(alpha, sigma, x, mu, std)) / alpha,
        )
        x = a * x + b * x_start + c * before
    return x


def draw(schedule, table, batch, seed=0, eager=False, **options):
    keys = jax.random.split(jax.random.key(seed), batch)
    options = {"prediction": "eps", "clip_x_start": False, **options}
    network = options.pop("network", exact_network(schedule))
    labels = jnp.zeros(batch, jnp.int32)

    def run(keys, labels):
        return samplers.sample(network, table, schedule, keys, labels, SHAPE, **options)

    if eager:  # the scan as a loop in Python, in which a network may look at its arguments
        with jax.disable_jit():
            return run(keys, labels)
    return jax.jit(run)(keys, labels)
