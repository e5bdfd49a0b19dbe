"""Where the programs write for people: a terminal, a file or a pipe."""

from typing import TextIO


def escape_what_cannot_be_written(stream: TextIO) -> None:
    """Names of classes are in any script; a terminal or a file in ASCII or Latin-1 has not all."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")
