"""The two ways a run ends early on purpose: the user's input is wrong, or the user stopped it."""

import errno
import os
import re
from collections.abc import Iterable, Iterator

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)
# How TensorStore, which orbax writes with, tells the operating system's error in its text.
OS_ERROR = re.compile(r"os_error_code='(\d+)'")


class UserError(Exception):
    """An error that the user can fix; the message is one sentence saying what, where and how."""


class Interrupted(Exception):
    """The run was asked to stop and has saved its state; the message says how to resume.

    Args:
        message: What was saved, and where.
        exit_code: 128 plus the number of the signal that asked for the stop.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def first_few(items: Iterable[object], *, shown: int = 3, separator: str = ", ") -> str:
    """The first few items and how many more there are, to be quoted in a sentence: a, b and 2 more.

    Args:
        items: In the order in which they are named.
        shown: How many are named.
        separator: Between those.
    """
    words = [str(item) for item in items]
    more = f" and {len(words) - shown:,} more" if len(words) > shown else ""
    return separator.join(words[:shown]) + more


def first_line(error: Exception) -> str:
    """The first line of another library's error message, to quote in a sentence."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else repr(error)


def write_failure(error: BaseException) -> tuple[str, str] | None:
    """Why something could not be written, and what to do about it.

    Args:
        error: Of any library; it and its causes are looked through for the operating system's.

    Returns:
        The operating system's words, and the beginning of the advice, which goes on with "and run
        again"; None where the error is not one of writing.
    """
    for code in _os_errors(error):
        if code in NO_ROOM:
            return os.strerror(code), "make room there"
        if code in REFUSED:
            return os.strerror(code), "make it writable"
        if code == errno.EFBIG:
            return os.strerror(code), "raise the limit on the size of files (ulimit -f)"
        if code in (errno.EIO, errno.ESTALE):
            return os.strerror(code), "see that the disk or the server is well"
    return None


def _os_errors(error: BaseException | None) -> Iterator[int]:
    """The operating system's error numbers of an error and its causes."""
    while error is not None:
        if isinstance(error, OSError) and error.errno:
            yield error.errno
        for found in OS_ERROR.findall(str(error)):
            yield int(found)
        error = error.__cause__ or error.__context__
