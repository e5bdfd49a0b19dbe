"""The two ways a run ends early on purpose: the user's input is wrong, or the user stopped it."""


class UserError(Exception):
    """Something the user can mend; the message is one sentence saying what, where and how."""


class Interrupted(Exception):
    """The run was asked to stop and has saved its state; the message says how to go on.

    Args:
        message: What was saved, and where.
        exit_code: 128 plus the number of the signal that asked for the stop.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def first_line(error: Exception) -> str:
    """The first line of what another library says of an error, to be quoted in a sentence."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else repr(error)
