"""The two ways a run ends early on purpose: the user's input is wrong, or the user stopped it."""

from collections.abc import Iterable


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
