"""Trees of arrays on an object store: written to a temporary local folder, which is then copied.

Process 0 does this for all processes: every whole array passes through its host's memory.

orbax has a way of its own to gs://, which is not used: its folders go through epath, but its
arrays through TensorStore, which has a client and a login of its own. A run would need two logins,
and no stand-in for a bucket would see the arrays.
"""

import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from ddb_jax.runtime.files import copy_tree, first_process, remove, write_atomically
from ddb_jax.runtime.processes import from_first

# The last file of a checkpoint; orbax gives it this name on object stores.
COMMIT = "commit_success.txt"

# (local folder to make, tree of NumPy arrays)
Write = Callable[[Path, Any], None]
# (folder, shapes, dtypes and shardings) -> tree
Read = Callable[[Path, Any], Any]


class RemoteSteps:
    """Numbered checkpoints; one counts once the file COMMIT is in its folder.

    Args:
        directory: Folder of the checkpoints' folders.
        kept: How many of the last checkpoints are kept.
        write: Writes a tree to a local folder.
        read: Reads a tree from a folder on the object store.
    """

    def __init__(self, directory: Path, kept: int, write: Write, read: Read) -> None:
        self._directory, self._kept = directory, kept
        self._write_local, self._read = write, read
        found = []
        if first_process() and directory.exists():
            numbers = [int(path.name) for path in directory.iterdir() if path.name.isdigit()]
            found = sorted(n for n in numbers if (directory / str(n) / COMMIT).exists())
        count = from_first(len(found))
        self._whole = [from_first(found[i] if found else 0) for i in range(count)]
        self._writer = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None

    def all(self) -> list[int]:
        """Steps of the checkpoints that are complete or being written."""
        return self._whole

    def save(self, step: int, state: Any) -> None:
        """Copy the arrays to the host; the rest is done in the background.

        Raises the error of the previous save, if it failed.
        """
        state = on_host(state)
        self._wait()
        self._whole.append(step)
        if first_process():
            self._pending = self._writer.submit(self._write, step, state)

    def _write(self, step: int, state: Any) -> None:
        self._drop(step)  # one that was set aside, or incomplete
        write_tree(self._directory / str(step), state, self._write_local)
        write_atomically(self._directory / str(step) / COMMIT, "")
        while len(self._whole) > self._kept:
            self._drop(self._whole.pop(0))

    def _drop(self, step: int) -> None:
        remove(self._directory / str(step) / COMMIT)
        remove(self._directory / str(step))

    def restore(self, step: int, abstract_state: Any) -> Any:
        """The state of a step."""
        return self._read(self._directory / str(step), abstract_state)

    def put_aside(self, steps: list[int]) -> None:
        """Mark these to be overwritten when training reaches them; until then they stay.

        A checkpoint that could not be fetched may still be intact.
        """
        for step in steps:
            self._whole.remove(step)

    def close(self) -> None:
        """Wait for pending writes; raises their error if one failed."""
        try:
            self._wait()
        finally:
            self._writer.shutdown()

    def _wait(self) -> None:
        pending, self._pending = self._pending, None
        if pending:
            pending.result()


def write_tree(directory: Path, tree: Any, write: Write) -> None:
    """Replace a folder on the object store by `tree`, which holds NumPy arrays."""
    with tempfile.TemporaryDirectory() as scratch:
        write(Path(scratch) / "tree", tree)
        remove(directory)
        copy_tree(Path(scratch) / "tree", directory)


def on_host(tree: Any) -> Any:
    """Copies as whole NumPy arrays; every process must ask, since some may be split over them."""

    def whole(x: Any) -> np.ndarray:
        if isinstance(x, jax.Array) and not (x.is_fully_addressable or x.is_fully_replicated):
            return multihost_utils.process_allgather(x, tiled=True)
        return np.array(x)

    return jax.tree.map(whole, tree)
