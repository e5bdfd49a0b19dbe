"""PyTorch in a separate process, seen from here; this side does not import it.

The two runtimes' threads would disturb each other in one process. The other one sleeps while this
one works.
"""

import importlib.util
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from ddb_jax.runtime.errors import UserError

# Forms of PyTorch: as one writes it, images with the channels last, torch.compile, half precision.
MODES = ("eager", "channels_last", "compile", "bf16")
TOLERANCE = 1e-4  # relative, of what is compared before anything is timed


def check_same(found: Mapping[str, float], expected: Mapping[str, float], what: str) -> None:
    """Refuse to compare the speed of two things that are not the same.

    Raises:
        UserError: A figure differs by more than TOLERANCE.
    """
    for name, value in expected.items():
        if not math.isclose(found[name], value, rel_tol=TOLERANCE):
            raise UserError(
                f"PyTorch does not do the same work in {what}: its {name} is {found[name]:.7g},"
                f" ours {value:.7g}; nothing is timed."
            )


class Peer:
    """The process; to be closed.

    Attributes:
        modes: The forms of PyTorch to be timed.
        pid: Its number.

    Raises:
        UserError: PyTorch is not installed.
    """

    def __init__(self, modes: list[str]) -> None:
        if importlib.util.find_spec("torch") is None:
            raise UserError("--peer needs PyTorch: install it with `pip install torch`.")
        self.modes = modes
        paths = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ddb_jax.benchmark.peer.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths},
        )
        self.pid = self._process.pid

    def load(self, mode: str, task: Mapping[str, Any], expected: Mapping[str, float]) -> float:
        """Prepare the work and compare it with ours; returns seconds of its first step.

        Raises:
            UserError: It is not the same work, or PyTorch cannot do it.
        """
        figures, seconds = self._ask("load", mode, dict(task))
        check_same(figures, expected, f"{task['program']} ({mode})")
        return seconds

    def run(self, mode: str, calls: int) -> float:
        """Seconds of a step, of so many."""
        return self._ask("run", mode, calls)

    def unload(self) -> None:
        """Free what `load` made."""
        self._ask("unload")

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def _ask(self, *request: Any) -> Any:
        try:
            pickle.dump(request, self._process.stdin)
            self._process.stdin.flush()
            kind, reply = pickle.load(self._process.stdout)
        except (BrokenPipeError, EOFError) as error:
            raise UserError("the process of PyTorch ended; its message stands above.") from error
        if kind == "failed":
            raise UserError(f"PyTorch cannot do this: {reply.rstrip('.')}.")
        return reply
