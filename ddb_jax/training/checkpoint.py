"""Checkpoints of the train state and finished weights; the project's one door to orbax."""

import logging
import shutil
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.sharding import Sharding
from orbax.checkpoint.checkpoint_managers import preservation_policy

from ddb_jax.training.errors import UserError

log = logging.getLogger("ddb_jax")


def abstract_like(tree: Any, sharding: Sharding) -> Any:
    """Shapes and dtypes of `tree`, to be restored under `sharding` on the devices at hand."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


class Checkpoints:
    """The numbered checkpoints of one training stage; the last two are kept.

    Args:
        directory: Where they lie; made if missing.
    """

    def __init__(self, directory: Path) -> None:
        self._manager = ocp.CheckpointManager(
            directory.absolute(),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=preservation_policy.LatestN(2),
            ),
        )

    def save(self, step: int, state: Any) -> None:
        """Save the whole state; returns once the arrays are copied, writing goes on behind.

        Raises:
            UserError: There is no room for it, or an earlier one could not be written.
        """
        if step in self._manager.all_steps():
            return
        _check_room(Path(self._manager.directory), state)
        try:
            self._manager.save(step, args=ocp.args.StandardSave(state), force=True)
        except Exception as error:  # orbax raises many types when a write fails
            raise self._unwritten(error) from error

    def restore(self, abstract_state: Any) -> tuple[int, Any] | None:
        """The newest checkpoint that is whole, as (step, state); None when there is none.

        A checkpoint that cannot be read is named in the log, put aside under another name, and the
        one before it used: the run then does again what lay between the two.

        Args:
            abstract_state: Shapes, dtypes and target shardings (`abstract_like`).

        Raises:
            UserError: There are checkpoints and none can be read; nothing is put aside then.
        """
        damaged: list[int] = []
        reason = ""
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                state = self._manager.restore(step, args=ocp.args.StandardRestore(abstract_state))
            except Exception as error:  # orbax raises many types for a damaged checkpoint
                reason = reason or _first_line(error)
                damaged.append(step)
                continue
            for bad in damaged:
                folder = Path(self._manager.directory) / str(bad)
                log.warning(
                    "the checkpoint %s cannot be read (%s); going on from step %d",
                    folder, reason, step,
                )  # fmt: skip
                folder.rename(folder.with_name(f"{bad}.damaged"))
            if damaged:
                self._manager.reload()
            return step, state
        if damaged:
            raise UserError(
                f"none of the checkpoints in {self._manager.directory} can be read ({reason});"
                " remove that folder to train from the beginning."
            )
        return None

    def close(self) -> None:
        """Wait for what is still being written.

        Raises:
            UserError: A checkpoint could not be written.
        """
        try:
            self._manager.wait_until_finished()
            self._manager.close()
        except Exception as error:  # orbax raises many types when a write fails
            raise self._unwritten(error) from error

    def _unwritten(self, error: Exception) -> UserError:
        return UserError(
            f"a checkpoint could not be written to {self._manager.directory}"
            f" ({_first_line(error)}); the ones before it are whole: make room and run again."
        )


def _check_room(directory: Path, tree: Any) -> None:
    """Refuse to begin a write that the disk has no room for: nothing is half written then."""
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
    free = shutil.disk_usage(directory).free
    if free < 1.1 * needed:
        raise UserError(
            f"a checkpoint takes {needed / 1e6:.1f} MB and {free / 1e6:.1f} MB are free at"
            f" {directory}; the checkpoints before it are whole: make room and run again."
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else repr(error)


def save_weights(directory: Path, weights: Any) -> None:
    """Write the finished weights of a stage ({"params": ..., "batch_stats": ...}).

    Raises:
        UserError: They could not be written.
    """
    _check_room(directory.parent, weights)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(directory.absolute(), weights, force=True)
    except Exception as error:  # orbax raises many types when a write fails
        raise UserError(
            f"the weights could not be written to {directory} ({_first_line(error)});"
            " make room and run again."
        ) from error


def load_weights(directory: Path, abstract_weights: Any) -> Any:
    """Read what `save_weights` wrote.

    Raises:
        UserError: The folder is missing, damaged, or holds weights of another shape.
    """
    if not directory.exists():
        raise UserError(f"{directory} does not exist: the stage that writes it has not finished.")
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore(directory.absolute(), abstract_weights)
    except Exception as error:  # orbax raises many types for a damaged checkpoint
        raise UserError(
            f"{directory} is damaged or was made by another network ({_first_line(error)});"
            f" remove {directory.parent} to make it again."
        ) from error
