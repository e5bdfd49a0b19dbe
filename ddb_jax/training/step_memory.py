"""The compiled training step, and whether it fits into the device's memory."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from ddb_jax.training.compilation import jit
from ddb_jax.training.mesh import replicated, state_shardings

# Files with the memory limit of a container (control groups, version 2 and 1).
CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
REMEDY = "lower its batch_size, raise its accumulate, or set the network's remat"


class StepMemory(NamedTuple):
    """Bytes that a training step takes on each of the devices.

    Attributes:
        kept: The train state and the batch.
        inner: Intermediate values: activations, gradients and so on.
    """

    kept: int
    inner: int


def jit_step(train_step: Callable[..., Any], mesh: Mesh, state: Any) -> Any:
    """The step as `fit` runs it: jitted, its state donated and laid out as `state_shardings` says.

    Args:
        train_step: (state, batch, ...) -> state and metrics.
        mesh: The devices.
        state: The train state, or its shapes.
    """
    shardings = (state_shardings(mesh, state), replicated(mesh))
    return jit(train_step, donate_argnums=0, out_shardings=shardings)


def memory_of(compiled: jax.stages.Compiled) -> StepMemory | None:
    """Memory of a compiled step; None if the backend does not report it."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return None
    # A donated state is counted once.
    outputs = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    inner = analysis.temp_size_in_bytes + outputs + analysis.generated_code_size_in_bytes
    return StepMemory(kept=analysis.argument_size_in_bytes, inner=inner)


def device_memory(device: jax.Device) -> int | None:
    """Bytes that one device has; None if unknown.

    CPU devices share the memory of the machine or of the container.
    """
    limit = (device.memory_stats() or {}).get("bytes_limit")
    if limit or device.platform != "cpu":
        return limit
    try:
        limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (ValueError, OSError):
        return None
    for path in map(Path, CONTAINER_LIMITS):
        words = path.read_text().strip() if path.is_file() else ""
        limits += [int(words)] if words.isdigit() else []
    return min(limits) // jax.local_device_count()


def describe_memory(memory: StepMemory | None, device: jax.Device) -> tuple[str, str]:
    """A line on the memory of a step, and a warning if it does not fit; "" for none.

    Args:
        memory: Memory of the step.
        device: One of those that it runs on.
    """
    if memory is None:
        return "", ""
    needed, limit = sum(memory), device_memory(device)
    takes = f"a training step takes {gigabytes(needed)} of memory on each device"
    text = f"{takes}, {gigabytes(memory.kept)} of it for the train state and the batch"
    if limit is None:
        return text, ""
    text += f"; a device has {gigabytes(limit)}"
    fits = needed <= limit
    return text, "" if fits else f"{takes}, which has {gigabytes(limit)}: {REMEDY}"


def gigabytes(count: float) -> str:
    """Bytes in words, of powers of 1000: "1.23 GB", "4.5 MB"."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
