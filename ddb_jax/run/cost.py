"""The estimated cost of a run, printed before it starts: operations and time of every task."""

import time
from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ddb_jax.data.source import Dataset
from ddb_jax.run.plan import Task
from ddb_jax.runtime.progress import duration
from ddb_jax.stages.costs import Work
from ddb_jax.stages.table import STAGES
from ddb_jax.training.compilation import jit

# Whole networks reach this share of a large matrix product's rate. Two CPU cores reached 0.4 to
# 0.7 (docs/results.md); accelerators in float32 are lower.
SHARE_OF_PEAK = {"cpu": 0.5}
OTHER_SHARE_OF_PEAK = 0.3


class Cost(NamedTuple):
    """One task's work.

    Attributes:
        name: The task's.
        work: Description of the work.
        operations: Floating-point operations of the network's passes.
    """

    name: str
    work: str
    operations: float


def estimate_costs(
    config: ConfigDict, tasks: Iterable[Task], dataset: Dataset, generator_dataset: Dataset
) -> list[Cost]:
    """The cost of the tasks that run a network; the others take seconds.

    Args:
        config: The resolved config.
        tasks: Tasks that still have to run.
        dataset: At the classifier's size.
        generator_dataset: At the generator's size.
    """
    work = Work(config, dataset, generator_dataset)
    return [
        Cost(task.name, *cost(work, task.options))
        for task in tasks
        if (cost := STAGES[task.stage].cost) is not None
    ]


def matrix_product_rate(side: int = 0, repeats: int = 3) -> float:
    """Operations a second of a float32 matrix product on one device, the best of some.

    Args:
        side: Side of the matrices; 0 is as large as the device needs to reach its rate.
        repeats: How many are timed.
    """
    # A CPU reaches its full rate on the smaller size, in an eighth of the time.
    side = side or (1024 if jax.default_backend() == "cpu" else 2048)
    a = jnp.ones((side, side), jnp.float32)
    product = jit(lambda a: a @ a)
    product(a).block_until_ready()
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        product(a).block_until_ready()
        seconds.append(time.perf_counter() - begin)
    return 2 * side**3 / min(seconds)


def describe_costs(costs: Iterable[Cost], mesh: Mesh) -> str:
    """A table for people; times are rough, from the rate of a matrix product measured here."""
    costs = list(costs)
    platform = mesh.devices.flat[0].platform
    share = SHARE_OF_PEAK.get(platform, OTHER_SHARE_OF_PEAK)
    rate = matrix_product_rate() * share * (1 if platform == "cpu" else mesh.size)
    width = max(len(cost.name) for cost in costs)
    lines = [
        f"  {cost.name:{width}}  {cost.operations:8.1e}  about {duration(cost.operations / rate)}"
        f"  ({cost.work})"
        for cost in costs
    ]
    total = sum(cost.operations for cost in costs)
    head = (
        f"estimated cost, in floating-point operations, and time at {rate / 1e9:,.0f} billion a"
        f" second ({share:.0%} of what a large matrix product reaches here), without compilation:"
    )
    return "\n".join(
        [head, *lines, f"  {'all':{width}}  {total:8.1e}  about {duration(total / rate)}"]
    )
