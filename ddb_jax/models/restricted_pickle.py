"""Reading pickles without running what they hold: a pickle can call any function that it names."""

import pickle
from collections.abc import Mapping
from typing import Any, BinaryIO


class RefusedPickle(Exception):
    """The pickle asks for a name that its content does not need."""


class RestrictedUnpickler(pickle.Unpickler):
    """Answers the names in a pickle from a table, and refuses all others.

    Args:
        file: Opened to read bytes.
        stand_ins: (module, name) -> what takes its place. A pickle can set attributes on what it is
            given: bound methods and functions made for one file keep that to the file.
        encoding: Of the strings of Python 2, as pickle.Unpickler has it.
    """

    def __init__(
        self, file: BinaryIO, stand_ins: Mapping[tuple[str, str], Any], *, encoding: str
    ) -> None:
        super().__init__(file, encoding=encoding)
        self._stand_ins = stand_ins

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name.

        Raises:
            RefusedPickle: There is none.
        """
        if (module, name) not in self._stand_ins:
            raise RefusedPickle(f"{module}.{name}")
        return self._stand_ins[module, name]
