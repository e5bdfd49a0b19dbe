"""What the tests of whole runs share: running a config, stopping it midway, reading its weights."""

from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from ddb_jax import pipeline
from ddb_jax.training.stop import StopFlag


class StopAfter(StopFlag):
    """Asks the run to stop once it has been asked `questions` times whether it should."""

    def __init__(self, questions: int) -> None:
        super().__init__()
        self._left = questions

    def __bool__(self) -> bool:
        self._left -= 1
        if self._left < 0:
            self.signal = 15
        return self.signal != 0


def run(config, workdir: Path, stop: StopFlag | None = None, **options) -> None:
    # Not "or": a flag that is not set is false.
    pipeline.run(config, workdir, stop=StopFlag() if stop is None else stop, **options)


def weights(folder: Path) -> dict[str, np.ndarray]:
    """All arrays under `weights/` of a stage's folder, by name."""
    with ocp.StandardCheckpointer() as checkpointer:
        tree = checkpointer.restore((folder / "weights").absolute())
    return {jax.tree_util.keystr(k): np.asarray(v) for k, v in jax.tree.leaves_with_path(tree)}


def assert_same_weights(a: Path, b: Path) -> None:
    left, right = weights(a), weights(b)
    assert left.keys() == right.keys() and left
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)
