"""Several processes as one run: joining them, agreeing, waiting for one another.

Every process runs the same program over the same work directory and computes its part of every
batch; process 0 alone writes files. With one process nothing here does anything.
"""

import logging
import os
import sys
import threading
import time
import zlib

import jax
import numpy as np
from jax.experimental import multihost_utils

from ddb_jax.runtime.errors import UserError, first_line
from ddb_jax.runtime.stop import StopFlag

log = logging.getLogger("ddb_jax")

# Seconds without a sign of life after which a process counts as dead.
HEARTBEAT_TIMEOUT = 60
# Seconds that process 0 waits after an error: otherwise the others end with a stack trace instead
# of their own error message.
LAST_WORDS = 3
# Texts of errors when a message to another process failed: CPU collectives, JAX's coordination
# service, accelerator links.
SIGNS_OF_LOSS = ("Gloo", "oordination service", "UNAVAILABLE", "DEADLINE_EXCEEDED", "NCCL")


def join(
    coordinator: str | None, num_processes: int | None, process_id: int | None, timeout: int
) -> None:
    """Connect this process with the others; call it before anything else uses JAX.

    Args:
        coordinator: HOST:PORT at which process 0 listens. None lets JAX ask the cluster (a TPU
            pod, Slurm, Open MPI), also for the two numbers.
        num_processes: How many there are.
        process_id: Which of them this one is, from 0.
        timeout: Seconds to wait for the others; then the process ends with exit status 1 and a
            message.

    Raises:
        UserError: The numbers do not fit, or no cluster tells them.
    """
    given = [value is not None for value in (coordinator, num_processes, process_id)]
    if any(given) and not all(given):
        raise UserError(
            "--coordinator, --num_processes and --process_id go together; --distributed alone asks"
            " the cluster for all three."
        )
    if coordinator is not None:
        if not 0 <= process_id < num_processes:
            raise UserError(
                f"--process_id is {process_id}, it must be at least 0 and below"
                f" --num_processes, which is {num_processes}."
            )
        if not coordinator.rpartition(":")[0] or not coordinator.rpartition(":")[2].isdigit():
            raise UserError(f"--coordinator is {coordinator!r}, it must be HOST:PORT.")
    where = coordinator or "the coordinator that the cluster names"

    # JAX ends the process with a stack trace at its timeout, so it gets a longer one.
    def give_up() -> None:
        print(
            f"error: the processes of this run did not all meet at {where} within {timeout} s:"
            " is every one started, with the same --coordinator and --num_processes, and can"
            " this machine reach it?",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)

    timer = threading.Timer(timeout, give_up)
    timer.daemon = True
    timer.start()
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            cluster_detection_method=None if coordinator is None else "deactivate",
            initialization_timeout=timeout + 60,
            heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT,
            # A process that ends by an error does not wait for the others.
            shutdown_timeout_seconds=30,
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"the processes of this run cannot be joined at {where} ({first_line(error)});"
            " without a TPU pod, Slurm or Open MPI give --coordinator=HOST:PORT,"
            " --num_processes and --process_id."
        ) from error
    finally:
        timer.cancel()


def check_platform() -> None:
    """Have JAX find its devices, which it otherwise does at their first use.

    Raises:
        UserError: There are none of the platform that is asked for.
    """
    try:
        jax.devices()
    except Exception as error:  # a missing plugin is an AssertionError
        if jax.config.jax_platforms:
            raise UserError(
                f"JAX_PLATFORMS is {jax.config.jax_platforms!r}, and JAX finds no such device here"
                f" ({_device_error(error)}): set it to cpu, or to cuda or tpu where there is one"
                " and JAX is installed for it, or unset it."
            ) from error
        raise UserError(
            f"JAX finds no device ({_device_error(error)}): see that the driver and JAX's plugin"
            " fit together, or set JAX_PLATFORMS=cpu."
        ) from error


def _device_error(error: Exception) -> str:
    """What JAX says, without its own advice."""
    text = first_line(error) if str(error) else "it has no plugin for it"
    return text.partition(" (set JAX_PLATFORMS")[0].rstrip(".")


def leave_if_another_is_gone(error: Exception) -> None:
    """End this process immediately if the error shows that another one ended; prints what to do.

    A normal exit would wait for the process that is gone.
    """
    texts = [str(e) for e in (error, error.__cause__, error.__context__) if e is not None]
    gone = any(sign in text for text in texts for sign in SIGNS_OF_LOSS)
    if not gone or alone():
        return
    print(
        f"error: process {jax.process_index()} of {jax.process_count()} stops, since another one"
        f" has ended or cannot be reached ({first_line(error)}); start all"
        " of them again with the same command, and the run resumes from its last checkpoint.",
        file=sys.stderr,
        flush=True,
    )
    sys.stdout.flush()
    os._exit(1)


def alone() -> bool:
    """Whether this process has no others to wait for; also where JAX finds no device to ask."""
    return not jax.distributed.is_initialized() or jax.process_count() == 1


def leave_alone(status: int) -> int:
    """End this process at once where there are others, which would wait for it; else `status`."""
    if alone():
        return status
    sys.stdout.flush()
    sys.stderr.flush()
    if jax.process_index() == 0:
        time.sleep(LAST_WORDS)
    os._exit(status)


def this_process() -> dict[str, int]:
    """What `data.input_pipeline` asks for to give this process its part of every batch."""
    return {"process_index": jax.process_index(), "process_count": jax.process_count()}


def barrier(name: str) -> None:
    """Wait until every process is here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def any_process(flag: bool) -> bool:
    """Whether it is true in any process; every process must call this."""
    if jax.process_count() == 1:
        return bool(flag)
    return bool(multihost_utils.process_allgather(np.array(bool(flag))).any())


def from_first(value: int) -> int:
    """The value of process 0, if the others may differ; every process must call this."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.array(value, np.int32)))


def all_equal(text: str) -> bool:
    """Whether every process has this text; every process must call this."""
    if jax.process_count() == 1:
        return True
    own = np.array(zlib.crc32(text.encode()), np.uint32)
    return len(np.unique(multihost_utils.process_allgather(own))) == 1


class AgreedStop(StopFlag):
    """A stop flag shared by all processes: set as soon as it is set in one.

    All processes must read it equally often. A read costs a message; `fit` reads it when it logs.
    """

    def __init__(self, own: StopFlag) -> None:
        super().__init__()
        self._own = own

    def __bool__(self) -> bool:
        if any_process(bool(self._own)):
            # Processes without a signal leave as if they had received the usual one.
            self.signal = self._own.signal or 15
        return bool(self.signal)
