"""Checkpoints of the train state and finished weights; the project's one door to orbax.

orbax writes local folders, all processes together. For object stores `remote_steps` has it write
temporary local folders and copies these, and says why.
"""

import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.sharding import Sharding
from orbax.checkpoint.checkpoint_managers import preservation_policy

from ddb_jax.runtime.errors import UserError, first_line, write_failure
from ddb_jax.runtime.files import agreed, first_process, is_local, local_copy
from ddb_jax.runtime.processes import barrier
from ddb_jax.runtime.remote_steps import RemoteSteps, on_host, write_tree

log = logging.getLogger("ddb_jax")

KEPT = 2  # checkpoints of a stage


def abstract_like(tree: Any, shardings: Any) -> Any:
    """Shapes and dtypes of `tree`, to be restored on the devices at hand.

    Args:
        tree: Arrays, or their shapes.
        shardings: Target shardings: a tree of the same form, or one for all.
    """
    if isinstance(shardings, Sharding):
        shardings = jax.tree.map(lambda x: shardings, tree)
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        tree,
        shardings,
    )


class Checkpoints:
    """The numbered checkpoints of one training stage; the last two are kept.

    Args:
        directory: Where they lie; made if missing.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        if is_local(directory):
            self._steps = _LocalSteps(directory)
        else:
            self._steps = RemoteSteps(directory, KEPT, _write, _read)

    def save(self, step: int, state: Any) -> None:
        """Save the whole state; returns once the arrays are copied, writes in the background.

        Raises:
            UserError: There is no room for it, or an earlier one could not be written.
        """
        if step in self._steps.all():
            return
        _check_room(self._directory, state)
        try:
            self._steps.save(step, state)
        except Exception as error:  # orbax raises many types when a write fails
            raise self._unwritten(error) from error

    def restore(self, abstract_state: Any) -> tuple[int, Any] | None:
        """The newest complete checkpoint as (step, state); None if there is none.

        A checkpoint that cannot be read is logged and renamed, and the previous one is
        used: the run then repeats the steps between the two.

        Args:
            abstract_state: Shapes, dtypes and target shardings (`abstract_like`).

        Raises:
            UserError: There are checkpoints and none can be read; then none is set aside.
        """
        damaged: list[int] = []
        reason = ""
        for step in sorted(self._steps.all(), reverse=True):
            try:
                state = self._steps.restore(step, abstract_state)
            except Exception as error:  # orbax raises many types for a damaged checkpoint
                reason = reason or first_line(error)
                damaged.append(step)
                continue
            for bad in damaged:
                log.warning(
                    "the checkpoint %s cannot be read (%s); resuming at step %d",
                    self._directory / str(bad), reason, step,
                )  # fmt: skip
            if damaged:
                self._steps.put_aside(damaged)
            return step, state
        if damaged:
            raise UserError(
                f"none of the checkpoints in {self._directory} can be read ({reason});"
                " remove that folder to train from the beginning."
            )
        return None

    def close(self) -> None:
        """Wait for pending writes.

        Raises:
            UserError: A checkpoint could not be written.
        """
        try:
            self._steps.close()
        except Exception as error:  # orbax raises many types when a write fails
            raise self._unwritten(error) from error

    def _unwritten(self, error: Exception) -> UserError:
        reason, fix = write_failure(error) or (first_line(error), "make room")
        return UserError(
            f"a checkpoint could not be written to {self._directory} ({reason}); the ones before it"
            f" are whole: {fix} and run again."
        )


class _LocalSteps:
    """Steps in a local folder, which orbax manages."""

    def __init__(self, directory: Path) -> None:
        self._manager = ocp.CheckpointManager(
            directory.absolute(),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=preservation_policy.LatestN(KEPT),
                cleanup_tmp_directories=True,  # what a kill or a full disk left takes room
            ),
        )

    def all(self) -> list[int]:
        return list(self._manager.all_steps())

    def save(self, step: int, state: Any) -> None:
        self._manager.save(step, args=ocp.args.StandardSave(_one_copy(state)), force=True)

    def restore(self, step: int, abstract_state: Any) -> Any:
        return self._manager.restore(step, args=ocp.args.StandardRestore(abstract_state))

    def put_aside(self, steps: list[int]) -> None:
        barrier("all have found the checkpoints damaged")
        for step in steps if first_process() else ():
            folder = Path(self._manager.directory) / str(step)
            folder.rename(folder.with_name(f"{step}.damaged"))
        barrier("the damaged checkpoints are set aside")
        self._manager.reload()

    def close(self) -> None:
        self._manager.wait_until_finished()
        self._manager.close()


def save_weights(directory: Path, weights: Any) -> None:
    """Write the finished weights of a stage ({"params": ..., "batch_stats": ...}).

    Raises:
        UserError: They could not be written.
    """
    _check_room(directory.parent, weights)
    try:
        if is_local(directory):
            with ocp.StandardCheckpointer() as checkpointer:
                checkpointer.save(directory.absolute(), _one_copy(weights), force=True)
        else:
            weights = on_host(weights)
            if first_process():
                write_tree(directory, weights, _write)
    except Exception as error:  # orbax raises many types when a write fails
        reason, fix = write_failure(error) or (first_line(error), "make room")
        raise UserError(
            f"the weights could not be written to {directory} ({reason}); {fix} and run again,"
            " which goes on from the last checkpoint."
        ) from error
    barrier("the weights are written")


def load_weights(directory: Path, abstract_weights: Any) -> Any:
    """Read what `save_weights` wrote.

    Raises:
        UserError: The folder is missing, damaged, or holds weights of another shape.
    """
    if not directory.exists():
        raise UserError(f"{directory} does not exist: the stage that writes it has not finished.")
    try:
        return _read(directory, abstract_weights)
    except Exception as error:  # orbax raises many types for a damaged checkpoint
        raise UserError(
            f"{directory} is damaged or was made by another network ({first_line(error)});"
            f" remove {directory.parent} to make it again."
        ) from error


def _one_copy(tree: Any) -> Any:
    """The tree with one device's copy of every array that all devices of this process hold whole.

    orbax has each device write a part of such an array, and compiles a program for every array and
    device: 240 of them for 30 small arrays on 8 devices, 9 seconds of processor time.
    """
    if jax.process_count() > 1:
        return tree

    def one(x: Any) -> Any:
        several = isinstance(x, jax.Array) and len(x.sharding.device_set) > 1
        return x.addressable_data(0) if several and x.is_fully_replicated else x

    return jax.tree.map(one, tree)


def _check_room(directory: Path, tree: Any) -> None:
    """Refuse a write that the disk has no room for, so that nothing is half written."""
    local = directory if is_local(directory) else Path(tempfile.gettempdir())
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
    free = shutil.disk_usage(local).free
    if not agreed(lambda: free >= 1.1 * needed):
        raise UserError(
            f"a checkpoint takes {needed / 1e6:.1f} MB and {free / 1e6:.1f} MB are free at"
            f" {local}; earlier checkpoints are complete: free some space and run again."
        )


def _write(directory: Path, tree: Any) -> None:
    """`tree` holds NumPy arrays, `directory` is this process's own."""
    with _alone() as checkpointer:
        checkpointer.save(directory, tree)


def _read(directory: Path, abstract: Any) -> Any:
    if is_local(directory):
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore(directory.absolute(), abstract)
    with local_copy(directory) as copied, _alone() as checkpointer:
        return checkpointer.restore(copied, abstract)


def _alone() -> ocp.StandardCheckpointer:
    """A checkpointer for this process's own folder; it does not wait for other processes."""
    own = jax.process_index()
    return ocp.StandardCheckpointer(
        multiprocessing_options=ocp.options.MultiprocessingOptions(
            primary_host=own,
            active_processes={own},
            barrier_sync_key_prefix=f"process_{own}",
        )
    )
