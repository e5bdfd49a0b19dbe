"""`jit` for the project's step functions, with the compiler options its CPU backend needs."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

# XLA's CPU backend sends convolutions and matrix products to YNNPACK by default, whose filter
# gradient is three to five times slower than Eigen's; for reductions it is the faster of the two.
# See https://github.com/jax-ml/jax/issues/37465.
_CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}


@functools.cache
def compiler_options() -> dict[str, str]:
    """Options for the default backend; empty where this jaxlib does not know them."""
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda x: x + 1, compiler_options=_CPU_OPTIONS).lower(jnp.zeros(())).compile()
    except Exception:  # jaxlib raises different types for an unknown option; none is a failure
        return {}
    return _CPU_OPTIONS


def jit(function: Callable, **options: Any) -> Callable:
    """`jax.jit` with `compiler_options()`; takes the same keyword arguments."""
    return jax.jit(function, compiler_options=compiler_options(), **options)
