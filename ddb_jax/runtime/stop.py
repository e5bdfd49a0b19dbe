"""The stop flag: SIGTERM and Ctrl-C ask the run to save and stop; a second one stops it at once."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class StopFlag:
    """Set by a signal, read between steps.

    Attributes:
        signal: Number of the signal that asked for the stop, or 0.
    """

    def __init__(self) -> None:
        self.signal = 0

    def __bool__(self) -> bool:
        return bool(self.signal)


@contextlib.contextmanager
def stop_flag() -> Iterator[StopFlag]:
    """Catch SIGTERM and SIGINT for the length of the block."""
    flag = StopFlag()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if flag:
            raise KeyboardInterrupt
        flag.signal = number
        print("\nstopping: saving first (once more ends the run at once)", flush=True)

    previous = {s: signal.signal(s, on_signal) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield flag
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
