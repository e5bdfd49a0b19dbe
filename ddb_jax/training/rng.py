"""Named random streams: every draw is a function of (seed, stage, step), never of history."""

import zlib

import jax


def stream(seed: int, name: str) -> jax.Array:
    """Key of the stream `name` under `seed`; different names give independent streams.

    Args:
        seed: The run's seed.
        name: Stage and purpose, such as "train_diffusion/noise".

    Returns:
        A typed key; draw for step s from `jax.random.fold_in(key, s)`.
    """
    # crc32 is stable across processes and Python versions, unlike hash().
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))


def data_seed(seed: int, name: str) -> int:
    """Integer seed in 0..2^31-1 for host-side shuffling, derived like `stream`."""
    return zlib.crc32(f"{name}:{seed}".encode()) & 0x7FFFFFFF
