"""One process at a time: a lock on an open file, which ends with the process.

Not the package filelock: where a file system has no locks it raises (ENOLCK of NFS), and it locks
only files that it opens itself, while a download holds the very file that it fills.
"""

import enum
import fcntl
import logging
from typing import IO, Any

log = logging.getLogger("ddb_jax")


class Lock(enum.Enum):
    """What came of asking for a lock."""

    HELD = "by this process"
    TAKEN = "by another process"
    NONE = "the file system has no locks"


def try_lock(file: IO[Any], *, unprotected: str) -> Lock:
    """Hold an open file for this process, without waiting.

    Args:
        file: Open for writing; the lock ends when it is closed.
        unprotected: What may go wrong without a lock, for the warning where the file system has
            none (NFS and Lustre mounted without them, for instance).
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return Lock.TAKEN
    except OSError as error:
        log.warning("warning: %s cannot be locked (%s): %s", file.name, error.strerror, unprotected)
        return Lock.NONE
    return Lock.HELD
