"""`jit` for the project's step functions, and the cache that keeps what was compiled."""

import functools
import os
import platform
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

# XLA's CPU backend sends convolutions to YNNPACK by default, whose filter gradient is three to five
# times slower than Eigen's; for reductions and matrix products it is the faster of the two (see
# docs/benchmark.md, and https://github.com/jax-ml/jax/issues/37465).
# That backend also drops the barriers that keep rematerialisation from being undone, and no memory
# would be saved; programs without barriers stay the same.
_CPU_OPTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": ("LIBRARY_FUSION_TYPE_REDUCE,LIBRARY_FUSION_TYPE_DOT"),
    "xla_disable_hlo_passes": "cse_barrier_expander",
}


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


def enable_cache() -> Path | None:
    """Keep compiled programs in the user's cache folder to make later starts faster.

    The folder is named after the processor: a program compiled for one may not run on another that
    shares the home directory. `XDG_CACHE_HOME` moves it.

    Returns:
        The folder; None if it cannot be made, and nothing is kept.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cpuinfo = Path("/proc/cpuinfo")
    flags = (
        [line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")][:1]
        if cpuinfo.exists()
        else []
    )
    features = f"{zlib.crc32(' '.join(flags).encode()):08x}"
    folder = home / "ddb_jax" / "xla" / f"{platform.machine()}-{features}"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return None  # a home that cannot be written to costs the cache, not the run
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # The many small programs are kept, too: together they take a second to compile.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return folder
