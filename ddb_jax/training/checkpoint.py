"""Checkpoints of the train state and finished weights; the project's one door to orbax."""

import logging
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
        """Save the whole state; returns once the arrays are copied, writing goes on behind."""
        if step not in self._manager.all_steps():
            self._manager.save(step, args=ocp.args.StandardSave(state), force=True)

    def restore(self, abstract_state: Any) -> tuple[int, Any] | None:
        """The newest checkpoint that is whole, as (step, state); None when there is none.

        A checkpoint that cannot be read is named in the log, removed, and the one before it used:
        the run then does again what lay between the two.

        Args:
            abstract_state: Shapes, dtypes and target shardings (`abstract_like`).
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                state = self._manager.restore(step, args=ocp.args.StandardRestore(abstract_state))
                return step, state
            except Exception as error:  # orbax raises many types for a damaged checkpoint
                reason = str(error).strip().splitlines()[0][:200] if str(error) else repr(error)
                log.warning(
                    "the checkpoint of step %d in %s cannot be read and is removed (%s)",
                    step, self._manager.directory, reason,
                )  # fmt: skip
                self._manager.delete(step)
        return None

    def close(self) -> None:
        """Wait for what is still being written."""
        self._manager.wait_until_finished()
        self._manager.close()


def save_weights(directory: Path, weights: Any) -> None:
    """Write the finished weights of a stage ({"params": ..., "batch_stats": ...})."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(directory.absolute(), weights, force=True)


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
        reason = str(error).strip().splitlines()[0][:200] if str(error) else repr(error)
        raise UserError(
            f"{directory} is damaged or was made by another network ({reason});"
            f" remove {directory.parent} to make it again."
        ) from error
