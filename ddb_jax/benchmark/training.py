"""Benchmark of a classifier's training: with a ready batch, fed by the pipeline, as a whole run."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from ddb_jax.benchmark.bench import Bench, BenchmarkRow, in_turns
from ddb_jax.benchmark.training_run import training_run
from ddb_jax.data.input_pipeline import Batch, train_batches
from ddb_jax.debias.contract import TrainingSet
from ddb_jax.debias.table import METHODS
from ddb_jax.stages.common.classifier_build import build_training
from ddb_jax.stages.common.networks import input_size
from ddb_jax.training.mesh import replicated, shard_batch, state_shardings
from ddb_jax.training.rng import stream
from ddb_jax.training.step_memory import jit_step
from ddb_jax.training.train_state import TrainState

ENDLESS = 2**31 - 1
AUGMENT_KEY = "benchmark/augment"


class TrainingRounds(NamedTuple):
    """Seconds a step, one entry a round.

    Attributes:
        ready: With one batch that lies on the device.
        fed: With batches from the pipeline, taken as `training.fit.fit` takes them.
        blocked: The part of `fed` that the host spent in next().
    """

    ready: list[float]
    fed: list[float]
    blocked: list[float]


def training(bench: Bench) -> list[BenchmarkRow]:
    """Plain training (ERM): a step with a ready batch, fed by the pipeline, and in a whole run."""
    (ready, fed, blocked), foreign = measure_training(bench)
    percent = [100 * share for share in waiting_share(ready, fed)]
    rows = [
        BenchmarkRow("ready batch", "s/step", ready, foreign=foreign),
        BenchmarkRow("fed by the pipeline", "s/step", fed, foreign=foreign),
        BenchmarkRow("of it, host in next()", "s/step", blocked, foreign=foreign),
        BenchmarkRow("share of time waiting for data", "%", percent, foreign=foreign),
    ]
    return rows + training_run(bench, *init_and_step(bench, "erm"), stream(0, AUGMENT_KEY))


def waiting_share(ready: Iterable[float], fed: Iterable[float]) -> list[float]:
    """Round by round, the share of a fed step by which it is longer than one with a ready batch.

    It holds the wait for the batch, its way to the device, and what the reading threads take from
    the step's own. Below 0 is noise.

    Args:
        ready: Seconds of a step with a batch that lies on the device.
        fed: Seconds of a step fed by the pipeline.
    """
    return [1 - r / f for r, f in zip(ready, fed, strict=True)]


def measure_training(bench: Bench) -> tuple[TrainingRounds, list[float]]:
    """Both kinds of step, in turns, and of every round the share that other processes took."""
    state, step = make_training(bench, "erm")
    key = jax.device_put(stream(0, AUGMENT_KEY), replicated(bench.mesh))

    def run(take: Callable[[], dict[str, jax.Array]]) -> float:
        nonlocal state
        # One step goes untimed, to start the threads; they have no time to fill their buffer for
        # steps that are timed, as they had if their batches waited for the other case's turn.
        state, _ = jax.block_until_ready(step(state, take(), key))
        begin = time.perf_counter()
        for _ in range(bench.steps):
            state, _ = step(state, take(), key)
        jax.block_until_ready(state)
        return (time.perf_counter() - begin) / bench.steps

    batches = _batches(bench)
    ready_batch = jax.block_until_ready(shard_batch(bench.mesh, next(batches)))
    batches.close()  # and with it its threads

    def ready() -> tuple[float, float]:
        return run(lambda: ready_batch), 0.0

    def fed() -> tuple[float, float]:
        batches, waits = _batches(bench), []

        def take() -> dict[str, jax.Array]:
            begin = time.perf_counter()
            batch = next(batches)
            waits.append(time.perf_counter() - begin)
            return shard_batch(bench.mesh, batch)

        seconds = run(take)
        batches.close()
        return seconds, sum(waits[1:]) / bench.steps

    run(lambda: ready_batch)  # compiles
    turns = in_turns({"ready": ready, "fed": fed}, bench.rounds)
    rounds = TrainingRounds(
        [seconds for seconds, _ in turns.values["ready"]],
        [seconds for seconds, _ in turns.values["fed"]],
        [blocked for _, blocked in turns.values["fed"]],
    )
    return rounds, turns.foreign


def make_training(bench: Bench, name: str) -> tuple[TrainState, Callable]:
    """A fresh state of a method's training, and its step, jitted; see `place`."""
    return place(bench.mesh, *init_and_step(bench, name))


def place(mesh: Mesh, init: Callable[[], TrainState], step: Callable) -> tuple[Any, Callable]:
    """The state that `init` makes, and the step, jitted, which donates it; as `fit` places them."""
    abstract = jax.eval_shape(init)
    state = jax.jit(init, out_shardings=state_shardings(mesh, abstract))()
    return state, jit_step(step, mesh, abstract)


def init_and_step(bench: Bench, name: str) -> tuple[Callable[[], TrainState], Callable]:
    """What makes the first state of a method's training, and the step, not yet jitted."""
    settings, k, entry = bench.settings, bench.num_classes, METHODS[name]
    method_settings = bench.config[entry.settings] if entry.settings else None
    method = entry.make(method_settings, TrainingSet(bench.source.labels, k))
    training = build_training(settings, k, input_size(settings, bench.source), method)
    return lambda: training.init(stream(0, "benchmark/init")), training.train_step


def _batches(bench: Bench) -> Iterator[Batch]:
    return train_batches(
        bench.source,
        batch_size=bench.settings.batch_size,
        seed=0,
        start_step=0,
        num_steps=ENDLESS,
    )
