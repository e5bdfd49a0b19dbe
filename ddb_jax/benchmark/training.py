"""Benchmark of the classifier's training step, with a ready batch and fed by the input pipeline."""

import functools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import jax

from ddb_jax.benchmark.bench import Bench, Row, in_turns
from ddb_jax.data.input_pipeline import Batch, train_batches
from ddb_jax.debias.method import TrainingSet
from ddb_jax.debias.methods import METHODS
from ddb_jax.stages.classifier_step import MAIN, make_train_step
from ddb_jax.stages.networks import build_classifier, init_variables, input_size
from ddb_jax.training import train_state
from ddb_jax.training.compilation import jit
from ddb_jax.training.mesh import replicated, shard_batch
from ddb_jax.training.rng import stream
from ddb_jax.training.train_state import TrainState

ENDLESS = 2**31 - 1


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


def train_step(bench: Bench) -> list[Row]:
    """The step of plain training (ERM) with a batch that lies on the device."""
    seconds = measure_training(bench).ready
    rates = [bench.settings.batch_size / s for s in seconds]
    return [Row("ready batch", "s/step", seconds), Row("ready batch", "images/s", rates)]


def training(bench: Bench) -> list[Row]:
    """The same step fed by the pipeline, taken in turns with the one above."""
    ready, fed, blocked = measure_training(bench)
    percent = [100 * share for share in waiting_share(ready, fed)]
    return [
        Row("fed by the pipeline", "s/step", fed),
        Row("of it, host in next()", "s/step", blocked),
        Row("share of time waiting for data", "%", percent),
    ]


def waiting_share(ready: Iterable[float], fed: Iterable[float]) -> list[float]:
    """Round by round, the share of a fed step by which it is longer than one with a ready batch.

    It holds the wait for the batch, its way to the device, and what the reading threads take from
    the step's own. Below 0 is noise.

    Args:
        ready: Seconds of a step with a batch that lies on the device.
        fed: Seconds of a step fed by the pipeline.
    """
    return [1 - r / f for r, f in zip(ready, fed, strict=True)]


@functools.cache
def measure_training(bench: Bench) -> TrainingRounds:
    """Both kinds of step, in turns; measured once for both programs."""
    state, step = _make_training(bench)

    def run(take: Callable[[], dict[str, jax.Array]]) -> float:
        nonlocal state
        # One step goes untimed, to start the threads; they have no time to fill their buffer for
        # steps that are timed, as they had if their batches waited for the other case's turn.
        state, _ = jax.block_until_ready(step(state, take()))
        begin = time.perf_counter()
        for _ in range(bench.steps):
            state, _ = step(state, take())
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
    values = in_turns({"ready": ready, "fed": fed}, bench.rounds)
    return TrainingRounds(
        [seconds for seconds, _ in values["ready"]],
        [seconds for seconds, _ in values["fed"]],
        [blocked for _, blocked in values["fed"]],
    )


def _make_training(bench: Bench) -> tuple[TrainState, Callable]:
    """A fresh state, and the jitted step, which donates it."""
    settings, size = bench.settings, input_size(bench.settings, bench.source)
    model = build_classifier(settings, bench.num_classes)
    method = METHODS["erm"].make(None, TrainingSet(bench.source.labels, bench.num_classes))
    optimizer, step = make_train_step(
        settings,
        {MAIN: model},
        size,
        method=method,
        augment_key=stream(0, "benchmark/augment"),
    )

    def init() -> TrainState:
        variables = init_variables(model, stream(0, "benchmark/init"), size)
        return train_state.create(variables, optimizer, method_state=method.init_state())

    state = jax.jit(init, out_shardings=replicated(bench.mesh))()
    return state, jit(step, donate_argnums=0)


def _batches(bench: Bench) -> Iterator[Batch]:
    return train_batches(
        bench.source,
        batch_size=bench.settings.batch_size,
        seed=0,
        start_step=0,
        num_steps=ENDLESS,
    )
