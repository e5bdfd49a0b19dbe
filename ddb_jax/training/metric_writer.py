"""Metrics to JSON lines and TensorBoard event files; only process 0 writes."""

import json
from collections.abc import Mapping
from pathlib import Path

import jax
from tensorboardX import SummaryWriter

from ddb_jax.training.files import write_atomically


class MetricWriter:
    """Appends one JSON object a step to `metrics.jsonl`, and event files to `tensorboard/`.

    Args:
        directory: Where both go; made if missing.
        start_step: Step the run goes on from. Lines beyond it, written by an earlier process after
            its last checkpoint, are dropped, so that nothing stands in the file twice.
    """

    def __init__(self, directory: Path, start_step: int = 0) -> None:
        self._enabled = jax.process_index() == 0
        if not self._enabled:
            return
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / "metrics.jsonl"
        kept = [row for row in read_metrics(self._path) if row["step"] <= start_step]
        write_atomically(self._path, "".join(json.dumps(row) + "\n" for row in kept))
        self._file = self._path.open("a")
        self._events = SummaryWriter(str(directory / "tensorboard"), purge_step=start_step + 1)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write `metrics` of `step` and flush."""
        if not self._enabled:
            return
        self._file.write(json.dumps({"step": step, **metrics}) + "\n")
        self._file.flush()
        for name, value in metrics.items():
            self._events.add_scalar(name, value, step)
        self._events.flush()

    def close(self) -> None:
        """Flush and close both files."""
        if self._enabled:
            self._file.close()
            self._events.close()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Rows of a `metrics.jsonl`; a last line cut short by a kill is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
