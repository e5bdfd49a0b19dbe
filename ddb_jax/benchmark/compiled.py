"""Compiles a program twice to time it, and reads the compiler's figures."""

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from jax.experimental.compilation_cache import compilation_cache


class Compiled(NamedTuple):
    """A compiled program.

    Attributes:
        call: Runs it.
        cold: Seconds of tracing and compiling it with an empty cache folder.
        cached: Seconds of the same where the folder holds the program.
        flops: Floating-point operations of one call; None if the compiler does not report it.
        bytes_accessed: Bytes of memory accessed in one call, without cache reuse; or None.
        memory: Bytes of arguments, results and scratch, what is donated counted once; or None.
    """

    call: Callable[..., Any]
    cold: float
    cached: float
    flops: float | None
    bytes_accessed: float | None
    memory: int | None


def compile_twice(function: Any, arguments: tuple[Any, ...]) -> Compiled:
    """Compile a jitted function for these arguments, and again from the cache folder."""

    def compile_once() -> tuple[Any, float]:
        jax.clear_caches()  # as a new process has none
        begin = time.perf_counter()
        compiled = function.lower(*arguments).compile()
        return compiled, time.perf_counter() - begin

    with _empty_cache():
        compiled, cold = compile_once()
        _, cached = compile_once()
    flops, accessed = count(compiled)
    return Compiled(compiled, cold, cached, flops, accessed, memory(compiled))


def count(compiled: Any) -> tuple[float | None, float | None]:
    """Operations and bytes accessed of a compiled program; a loop's body counts once, as of XLA."""
    cost = compiled.cost_analysis() or {}
    if isinstance(cost, list):  # one entry a program, in some versions
        cost = cost[0] if cost else {}
    # XLA reports -1 for unknown values.
    flops, accessed = (cost.get(name, 0.0) for name in ("flops", "bytes accessed"))
    return (flops if flops > 0 else None), (accessed if accessed > 0 else None)


def memory(compiled: Any) -> int | None:
    """Bytes that a compiled program takes while it runs, on one device."""
    sizes = compiled.memory_analysis()
    if sizes is None:
        return None
    return (
        sizes.argument_size_in_bytes
        + sizes.output_size_in_bytes
        + sizes.temp_size_in_bytes
        - sizes.alias_size_in_bytes
    )


@contextlib.contextmanager
def _empty_cache() -> Iterator[None]:
    """Uses a separate folder for JAX's compilation cache within the block."""
    names = (
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
    )
    before = {name: getattr(jax.config, name) for name in names}
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name, value in zip(names, (folder, 0.0, -1), strict=True):
                jax.config.update(name, value)
            compilation_cache.reset_cache()
            yield
        finally:
            for name, value in before.items():
                jax.config.update(name, value)
            compilation_cache.reset_cache()
