"""The machine that a benchmark runs on: its processor time, its matrix products, its name."""

import functools
import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ddb_jax.training.compilation import jit

PACKAGES = ("jax", "jaxlib", "flax", "grain", "array-record", "numpy", "pillow")
BUSY = 0.05  # share of the cores that others may use in the median round of a figure


class Reading(NamedTuple):
    """Seconds since some moment.

    Attributes:
        wall: By the clock.
        own: Processor time of this process and the given helpers.
        everyone: Processor time of all processes on the cores that this one may use; None if the
            machine does not report it.
    """

    wall: float
    own: float
    everyone: float | None


def cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def read(helpers: Iterable[int] = ()) -> Reading:
    """The clocks now; `helpers` are ids of processes that work for this one."""
    own = time.process_time() + sum(_process_seconds(pid) for pid in helpers)
    return Reading(time.perf_counter(), own, _everyone_seconds())


def foreign_share(before: Reading, after: Reading) -> float | None:
    """Share of the cores, 0 to 1, that other processes used between two readings.

    The machine counts in hundredths of a second, so a tenth of a second is measured roughly.
    """
    if before.everyone is None or after.everyone is None or after.wall <= before.wall:
        return None
    foreign = after.everyone - before.everyone - (after.own - before.own)
    return min(max(foreign / ((after.wall - before.wall) * len(cores())), 0.0), 1.0)


def _everyone_seconds() -> float | None:
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    names = {f"cpu{core}" for core in cores()}
    ticks = 0
    for line in stat.read_text().splitlines():
        name, *fields = line.split()
        if name in names:
            user, nice, system, _, _, irq, softirq, steal = map(int, fields[:8])
            ticks += user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")


def _process_seconds(pid: int) -> float:
    """Processor time of another process; 0 if unknown."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return 0.0
    fields = stat.read_text().rsplit(")", 1)[1].split()  # the name before may hold anything
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@functools.cache
def matrix_product(dtype: str, side: int = 2048) -> Callable[[], float]:
    """Times a product of two large square matrices on one device: operations a second.

    Args:
        dtype: Type of the matrices.
        side: Side of the matrices.
    """
    a = jnp.ones((side, side), dtype)
    product = jit(lambda a: a @ a).lower(a).compile()

    def rate() -> float:
        begin = time.perf_counter()
        product(a).block_until_ready()
        return 2 * side**3 / (time.perf_counter() - begin)

    return rate


def describe(mesh: Mesh) -> dict[str, Any]:
    """What the figures are taken on, ready for JSON."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    device = mesh.devices.flat[0]
    return {
        "device": f"{mesh.size} x {device.device_kind} ({jax.default_backend()})",
        "host": f"{len(cores())} of {os.cpu_count()} cores of"
        f" {model[0] if model else platform.machine()}",
        "load": f"{os.getloadavg()[0]:.2f} in the last minute",
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }
