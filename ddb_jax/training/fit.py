"""The one training loop: evaluate, save, take the next batch, step, log, in this order."""

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from clu import parameter_overview
from jax.sharding import Mesh

from ddb_jax.runtime.errors import Interrupted, UserError
from ddb_jax.runtime.processes import AgreedStop, leave_if_another_is_gone
from ddb_jax.runtime.progress import Progress
from ddb_jax.runtime.stop import StopFlag
from ddb_jax.training.checkpoint import Checkpoints, abstract_like
from ddb_jax.training.mesh import put, replicated, shard_batch, state_shardings
from ddb_jax.training.metric_writer import MetricWriter
from ddb_jax.training.step_memory import describe_memory, jit_step, memory_of
from ddb_jax.training.train_state import TrainState

log = logging.getLogger("ddb_jax")


class Schedule(NamedTuple):
    """How long to train, and how often to do what; an interval of 0 is never."""

    num_steps: int
    log_every: int
    checkpoint_every: int
    evaluate_every: int = 0


def restore_or_init(
    checkpoints: Checkpoints,
    init: Callable[..., TrainState],
    arguments: tuple[Any, ...],
    mesh: Mesh,
) -> Any:
    """The newest whole checkpoint, or the fresh state of `init` when there is none.

    With a checkpoint the fresh state is only traced, so that both are never in memory together.
    """
    abstract = jax.eval_shape(init, *arguments)
    shardings = state_shardings(mesh, abstract)
    restored = checkpoints.restore(abstract_like(abstract, shardings))
    if restored:
        log.info("resuming at step %d", restored[0])
        return restored[1]
    return jax.jit(init, out_shardings=shardings)(*put(replicated(mesh), arguments))


def fit(
    init: Callable[..., TrainState],
    train_step: Callable[..., tuple[TrainState, dict[str, Any]]],
    batches: Callable[[int], Iterator[Mapping[str, np.ndarray]]],
    schedule: Schedule,
    *,
    title: str,
    folder: Path,
    mesh: Mesh,
    stop: StopFlag,
    evaluate: Callable[[TrainState], tuple[TrainState, dict[str, float]]] | None = None,
    init_arguments: tuple[Any, ...] = (),
    step_arguments: tuple[Any, ...] = (),
) -> TrainState:
    """Train to `schedule.num_steps`, from a checkpoint in `folder` if there is one.

    Args:
        init: Makes the state of step 0; traced by jit.
        train_step: (state, batch, *step_arguments) -> state and metrics, which are scalars, "loss"
            among them; traced by jit.
        batches: From a step to an iterator over this process's part of the batches from there on,
            as host arrays.
        schedule: Number of steps and intervals.
        title: The stage's name in messages and in the progress line.
        folder: Receives `checkpoints/`, `metrics.jsonl` and `tensorboard/`.
        mesh: The devices.
        stop: Read between steps; with several processes, only when metrics are logged.
        evaluate: Called every `evaluate_every` steps and after the last; may change the state
            (record the weights it prefers) and returns figures to log.
        init_arguments: Arrays that `init` starts from, such as pretrained weights.
        step_arguments: Arrays that every step reads and none changes, such as a frozen network.

    Returns:
        The state after the last step.

    Raises:
        UserError: The loss is not finite; names the stage and the step.
        Interrupted: `stop` was set; the state is saved.
    """
    checkpoints, writer, progress = Checkpoints(folder / "checkpoints"), None, None
    try:
        state = restore_or_init(checkpoints, init, init_arguments, mesh)
        compiled = jit_step(train_step, mesh, state)
        step_arguments = put(replicated(mesh), step_arguments)
        start = saved = int(state.step)
        parameters = parameter_overview.count_parameters(state.params)
        log.info("%s: training %s parameters", title, f"{parameters:,}")
        writer = MetricWriter(folder, start)
        progress = Progress(title, schedule.num_steps, start)
        pending: list[dict[str, jax.Array]] = []  # metrics still on the device, one a step
        rows: list[dict[str, float]] = []  # those fetched and not yet logged
        source = iter(batches(start))
        for step in range(start, schedule.num_steps + 1):
            last = step == schedule.num_steps
            due = schedule.log_every and step % schedule.log_every == 0
            # Read once: a signal may come between two looks.
            stopping = (not isinstance(stop, AgreedStop) or due or last) and bool(stop)
            checkpoint_due = step > saved and (
                last
                or stopping
                or (schedule.checkpoint_every and step % schedule.checkpoint_every == 0)
            )
            evaluate_due = (
                evaluate is not None
                and step > start
                and (last or (schedule.evaluate_every and step % schedule.evaluate_every == 0))
            )
            if pending and (due or checkpoint_due or evaluate_due):
                rows += _fetch_finite(pending, title, step)
                pending = []
                progress.update(step, {"loss": rows[-1]["loss"]})
                if due or last:
                    names = rows[0].keys()
                    writer.write(step, {n: float(np.mean([r[n] for r in rows])) for n in names})
                    rows = []
            if evaluate_due:
                state, metrics = evaluate(state)
                writer.write(step, metrics)
            if checkpoint_due:
                writer.flush()
                checkpoints.save(step, state)
                saved = step
            if stopping and not last:
                raise Interrupted(
                    f"{title} stopped at step {step} of {schedule.num_steps} and is saved;"
                    " run the same command to resume.",
                    128 + stop.signal,
                )
            if last:
                break
            batch = shard_batch(mesh, next(source))
            if step == start:  # the call below takes the program that is compiled here
                _say_memory(title, compiled.lower(state, batch, *step_arguments).compile(), mesh)
            state, metrics = compiled(state, batch, *step_arguments)
            pending.append(metrics)
        return state
    except Exception as error:
        leave_if_another_is_gone(error)
        raise
    finally:
        if writer:
            writer.close()
        if progress:
            progress.close()
        checkpoints.close()


def _say_memory(title: str, program: jax.stages.Compiled, mesh: Mesh) -> None:
    text, warning = describe_memory(memory_of(program), mesh.local_devices[0])
    if text:
        log.info("%s: %s", title, text)
    if warning:
        log.warning("warning: %s: %s", title, warning)


def _fetch_finite(
    pending: list[dict[str, jax.Array]], title: str, step: int
) -> list[dict[str, float]]:
    """The metrics of the pending steps, the last of which led to `step`; refuses a bad one."""
    rows = jax.device_get(pending)
    for offset, row in enumerate(rows):
        # They include the gradient's norm: no checkpoint is saved after a bad update.
        for name, value in row.items():
            if not np.isfinite(value):
                raise UserError(
                    f"the {name} of {title} became {value} at step"
                    f" {step - len(rows) + offset + 1}; lower its learning_rate or set its"
                    " grad_clip, and run again: the last checkpoint is intact."
                )
    return rows
