"""One line of progress for every long loop: step, rate, time left and the numbers that matter."""

import sys
import time
from collections.abc import Mapping

import jax


def duration(seconds: float) -> str:
    """Short form of a duration: 45s, 3m20s, 2h05m, 12 days."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    if seconds < 4 * 86400:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"
    return f"{round(seconds / 86400):,} days"


class Progress:
    """Prints `title step/total  rate  time left  metrics` on one line that is updated in place.

    Into a file or a pipe a line is printed at most every 30 seconds. Only process 0 prints. The
    rate is known from the second call that shows a step of this run: the first one's time holds
    the compilation.

    Args:
        title: The stage.
        total: Steps of the whole loop.
        start: Steps done by an earlier run.
        unit: What a step is called.
    """

    def __init__(self, title: str, total: int, start: int = 0, unit: str = "steps") -> None:
        self._title, self._total, self._start, self._unit = title, total, start, unit
        self._begin = self._last_print = time.perf_counter()
        self._rate_from = (start, self._begin)
        self._on_terminal = sys.stdout.isatty()
        self._enabled = jax.process_index() == 0

    def update(self, step: int, metrics: Mapping[str, float] | None = None) -> None:
        """Show that `step` steps are done."""
        now = time.perf_counter()
        if self._rate_from[0] == self._start and step > self._start:
            self._rate_from = (step, now)  # the first step includes compilation and is not counted
        interval = 0.2 if self._on_terminal else 30.0
        if not self._enabled or now - self._last_print < interval:
            return
        self._last_print = now
        done, since = step - self._rate_from[0], now - self._rate_from[1]
        speed = "rate not known yet"
        if done > 0 and since > 0:
            rate = done / since
            shown = f"{rate:.1f}" if rate >= 1 else f"{rate:.2g}"
            speed = f"{shown} {self._unit}/s  {duration((self._total - step) / rate)} left"
        figures = "  ".join(f"{name} {value:.4g}" for name, value in (metrics or {}).items())
        line = f"{self._title}  {step}/{self._total}  {speed}  {figures}".rstrip()
        print(f"\r\033[K{line}" if self._on_terminal else line, end="", flush=True)
        if not self._on_terminal:
            print(flush=True)

    def close(self) -> None:
        """Clear the line."""
        if self._enabled and self._on_terminal:
            print("\r\033[K", end="", flush=True)
