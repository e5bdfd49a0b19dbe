"""Time that a real training run spends outside its steps: data, logging, checkpoints."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

from ddb_jax.benchmark.bench import Bench, BenchmarkRow
from ddb_jax.data.input_pipeline import Batch, train_batches
from ddb_jax.training.fit import Schedule, fit
from ddb_jax.training.train_state import TrainState

ROUNDS_OF_STEPS = 3  # a run's length in steps of a round, at least
FEWEST_STEPS = 24


class Clock:
    """Replaces the batches and the stop flag of `fit`, and records times.

    `fit` asks the flag, logs and saves what is due, takes a batch and calls the step, in this
    order. The flag waits until the step is done, so that nothing overlaps: shares are upper bounds.

    Attributes:
        asked: When the step before was done, one entry more than steps.
        taking: When the next batch was wanted.
        taken: When it was there.
        signal: Signal of a stop that never comes.
    """

    signal = 0

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.taking: list[float] = []
        self.taken: list[float] = []

    def __bool__(self) -> bool:
        jax.block_until_ready(jax.live_arrays())  # the step's results are among them
        self.asked.append(time.perf_counter())
        return False

    def batches(self, source: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches."""
        while True:
            self.taking.append(time.perf_counter())
            batch = next(source, None)
            self.taken.append(time.perf_counter())
            if batch is None:
                return
            yield batch


def training_run(
    bench: Bench, init: Callable[[], TrainState], step: Callable, key: jax.Array
) -> list[BenchmarkRow]:
    """Train by `training.fit.fit` for some dozens of steps, and say where the time went.

    Args:
        bench: Its steps, and of its config the batch size and the two intervals are read.
        init: Makes the first state.
        step: The training step, not jitted.
        key: Random key of its transforms.
    """
    settings, clock = bench.settings, Clock()
    length = max(FEWEST_STEPS, ROUNDS_OF_STEPS * bench.steps)
    # As often as it takes to see both; the shares are of the config's intervals.
    log_every = min(settings.log_every or length, length // 6)
    save_every = min(settings.checkpoint_every or length, length // 2)
    with tempfile.TemporaryDirectory() as folder:
        fit(
            init,
            step,
            lambda start: clock.batches(
                train_batches(
                    bench.source,
                    batch_size=settings.batch_size,
                    seed=0,
                    start_step=start,
                    num_steps=length,
                )
            ),
            Schedule(length, log_every, save_every),
            title="benchmark",
            folder=Path(folder),
            mesh=bench.mesh,
            stop=clock,
            step_arguments=(key,),
        )
        end = time.perf_counter()
    intervals = settings.log_every, settings.checkpoint_every
    return shares(clock, end, log_every, save_every, *intervals)


def shares(
    clock: Clock,
    end: float,
    log_every: int,
    save_every: int,
    config_log_every: int,
    config_save_every: int,
) -> list[BenchmarkRow]:
    """Of a run's time: what is not the step, as its intervals would have it.

    Args:
        clock: After the run.
        end: When `fit` returned: the last checkpoint was written.
        log_every: Interval of the run; `save_every` likewise.
        save_every: Interval of checkpoints.
        config_log_every: Interval that the shares are of; 0 is never, and so below.
        config_save_every: Interval of checkpoints.
    """
    steps = range(1, len(clock.asked) - 1)  # the first holds the compilation
    step = statistics.median(clock.asked[i + 1] - clock.taken[i] for i in steps)
    taking = statistics.mean(clock.taken[i] - clock.taking[i] for i in steps)
    between = {i: clock.taking[i] - clock.asked[i] for i in steps}
    saves = {i for i in steps if i % save_every == 0}
    logs = {i for i in steps if i % log_every == 0} - saves
    rest = statistics.mean(between[i] for i in steps if i not in saves | logs)
    # Not below 0: of a step that takes microseconds the difference is noise.
    log = max(statistics.mean(between[i] for i in logs) - rest, 0.0)
    save = end - clock.asked[-1]
    per_step = {
        "waiting for data": taking,
        "logging": log / config_log_every if config_log_every else 0.0,
        "saving checkpoints": save / config_save_every if config_save_every else 0.0,
        "the loop itself": rest,
    }
    whole = step + sum(per_step.values())
    return [
        BenchmarkRow("a whole run: batch to the device, and step", "s/step", [step]),
        BenchmarkRow("of one log line", "s", [log]),
        BenchmarkRow("of one checkpoint, until it is written", "s", [save]),
        *(BenchmarkRow(f"share of {name}", "%", [100 * s / whole]) for name, s in per_step.items()),
        BenchmarkRow("share of all that is not the step", "%", [100 * (1 - step / whole)]),
    ]
