"""The process in which PyTorch works; it reads pickled requests and writes pickled replies.

Requests are ("load", mode, task), ("run", mode, calls) and ("unload",); a reply is ("done", what
was found) or ("failed", a sentence).
"""

import os
import pickle
import sys
import time
import warnings
from typing import Any

import torch

from ddb_jax.benchmark.peer.step import Step
from ddb_jax.benchmark.peer.steps import STEPS


def main() -> None:
    """Answer until the other side closes."""
    requests = sys.stdin.buffer
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no reply
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    steps: dict[str, Step] = {}
    while True:
        try:
            name, *arguments = pickle.load(requests)
        except EOFError:
            return
        try:
            reply = ("done", answer(steps, name, *arguments))
        except Exception as error:  # whatever went wrong, the other side has to be told
            reply = ("failed", f"{type(error).__name__}: {error}".splitlines()[0])
        pickle.dump(reply, replies)
        replies.flush()


def answer(steps: dict[str, Step], name: str, *arguments: Any) -> Any:
    """Do one request; `steps` are those loaded, by their mode."""
    if name == "load":
        mode, task = arguments
        steps[mode] = STEPS[task["program"]](task, mode)
        figures = steps[mode].checked()
        steps[mode].checking = False
        return figures, run(steps[mode], 1)
    if name == "run":
        mode, calls = arguments
        return run(steps[mode], calls) / calls
    steps.clear()
    return None


def run(step: Step, calls: int) -> float:
    """Seconds of so many steps."""
    begin = time.perf_counter()
    for _ in range(calls):
        step.step()
    if step.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
