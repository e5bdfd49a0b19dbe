"""Safetensors files: names, dtypes and shapes from the header, arrays one at a time; and back.

The library's NumPy side knows no 8-bit floats; those are read here, since published models have
them (https://github.com/huggingface/safetensors describes the format).
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors.numpy

from ddb_jax.models.file_content import stand_in

FLOATS = ("F64", "F32", "F16", "BF16")
FLOATS_8 = {
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
}
INTEGERS = ("BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64")
LONGEST_HEADER = 100_000_000  # bytes, that the library reads
READABLE = (*FLOATS, *FLOATS_8, *INTEGERS)


class Tensors:
    """The tensors of an open file, by name; `open_tensors` makes it.

    Args:
        path: The file.
        opened: What the library gives for it.
    """

    def __init__(self, path: Path, opened: Any) -> None:
        self._path, self._opened = path, opened

    def names(self) -> list[str]:
        """Of all tensors."""
        return list(self._opened.keys())

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one tensor, by the header."""
        return tuple(self._opened.get_slice(name).get_shape())

    def dtype(self, name: str) -> str:
        """Of one tensor, in the format's own words: F32, BF16, F8_E4M3, ..."""
        return self._opened.get_slice(name).get_dtype()

    def read(self, name: str) -> np.ndarray:
        """One tensor; 8-bit floats come as float32.

        Raises:
            ValueError: Its dtype cannot be read.
        """
        dtype = self.dtype(name)
        if dtype not in READABLE:
            raise ValueError(f"{self._path} holds {name} as {dtype}, {UNREADABLE}")
        if dtype not in FLOATS_8:
            return self._opened.get_tensor(name)
        with self._path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            begin, end = json.loads(file.read(length))[name]["data_offsets"]
            file.seek(8 + length + begin)
            raw = np.frombuffer(file.read(end - begin), FLOATS_8[dtype])
        return raw.astype(np.float32).reshape(self.shape(name))


UNREADABLE = f"which is not read ({', '.join(READABLE)} are): save the model as float16 or float32"


@contextmanager
def open_tensors(path: Path) -> Iterator[Tensors]:
    """The tensors of a local file; nothing but its header is read yet.

    Raises:
        ValueError: It is something else, or cut short; the sentence says what it is.
    """
    path = Path(path)
    try:
        other = stand_in(path, own=("safetensors",))
        if other:
            raise ValueError(f"{path} {other}")
        opened = safetensors.safe_open(path, framework="np")
    except (OSError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path} {_fault(path, error)}") from None
    with opened as file:
        yield Tensors(path, file)


def _fault(path: Path, error: Exception) -> str:
    """What is wrong with a file that the library refuses."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if file.read(1) == b"{" and size < length + 8 < LONGEST_HEADER:
                return f"is cut short at {size:,} bytes, inside its header: get it again"
            file.seek(8)
            header = json.loads(file.read(length)) if length < size else {}
        whole = 8 + length + max(e["data_offsets"][1] for n, e in header.items() if n[0] != "_")
        if whole > size:
            return f"is cut short: it has {size:,} of its {whole:,} bytes; get it again"
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        pass  # the header itself is damaged
    reason = getattr(error, "strerror", None) or str(error).split("\n")[0]
    return f"cannot be read as safetensors ({reason}): get it again"


def as_safetensors(tensors: Mapping[str, np.ndarray]) -> bytes:
    """The content of a file of these arrays."""
    return safetensors.numpy.save(dict(tensors))
