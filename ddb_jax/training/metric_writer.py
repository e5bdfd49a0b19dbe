"""Metrics to JSON lines and TensorBoard event files; only process 0 writes."""

import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboardX import SummaryWriter

from ddb_jax.runtime.files import (
    copy_tree,
    first_process,
    is_local,
    make_folder,
    write_atomically,
)

# Object stores cannot append: files are rewritten, but not at every step.
COPY_SECONDS = 30


class MetricWriter:
    """Appends one JSON object a step to `metrics.jsonl`, and event files to `tensorboard/`.

    Args:
        directory: Where both go; made if missing.
        start_step: Step at which the run resumes. Later lines, written by an earlier process after
            its last checkpoint, are dropped, so that no step is written twice.
    """

    def __init__(self, directory: Path, start_step: int = 0) -> None:
        self._enabled = first_process()
        if not self._enabled:
            return
        rows = read_metrics(directory / "metrics.jsonl")
        kept = [row for row in rows if row["step"] <= start_step]
        self._directory, self._local, self._scratch = directory, directory, None
        if not is_local(directory):
            self._scratch = tempfile.TemporaryDirectory()
            self._local, self._copied = Path(self._scratch.name), time.monotonic()
        make_folder(self._local)
        path = self._local / "metrics.jsonl"
        write_atomically(path, "".join(json.dumps(row) + "\n" for row in kept))
        self._file = path.open("a")
        self._events = SummaryWriter(str(self._local / "tensorboard"), purge_step=start_step + 1)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write `metrics` of `step` and flush."""
        if not self._enabled:
            return
        self._file.write(json.dumps({"step": step, **metrics}) + "\n")
        self._file.flush()
        for name, value in metrics.items():
            self._events.add_scalar(name, value, step)
        self._events.flush()
        if self._scratch and time.monotonic() - self._copied > COPY_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write everything to the directory; called before a checkpoint is saved."""
        if self._enabled and self._scratch:
            copy_tree(self._local, self._directory)
            self._copied = time.monotonic()

    def close(self) -> None:
        """Flush and close both files."""
        if not self._enabled:
            return
        self._file.close()
        self._events.close()
        self.flush()
        if self._scratch:
            self._scratch.cleanup()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Rows of a `metrics.jsonl`; a last line cut short by a kill is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
