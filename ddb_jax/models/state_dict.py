"""Reads PyTorch state dicts as NumPy arrays without PyTorch, and without running what they hold.

A `.pth` file is a pickle. The unpickler here admits only the calls of which a state dict is made,
and puts NumPy functions in their place.
"""

import math
import os
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import jax.numpy as jnp
import numpy as np

from ddb_jax.models.restricted_pickle import RestrictedUnpickler
from ddb_jax.models.safetensors_file import open_tensors

BFLOAT16 = np.dtype(jnp.bfloat16)

# Classes of torch whose storages are admitted; the data is little-endian.
STORAGES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": BFLOAT16,
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}

# What torch.save wrote before PyTorch 1.6 begins with these two pickled numbers.
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001


class _Parameter:
    """A parameter as PyTorch before 0.4 pickled it: Parameter(tensor), or the tensor in a state."""

    def __new__(cls, data: np.ndarray | None = None) -> "_Parameter":
        parameter = super().__new__(cls)
        parameter.data = data
        return parameter

    def __setstate__(self, state: tuple) -> None:
        if len(state) == 5:
            self.data = state[0]


class StateDictUnpickler(RestrictedUnpickler):
    """Unpickles a state dict; `storage(key, dtype, count)` gives the elements of a storage."""

    def __init__(self, file: BinaryIO, storage: Callable[[str, np.dtype, int], np.ndarray]) -> None:
        torch_modules = ("torch", "torch.storage")
        stand_ins = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor"): self.rebuild_tensor,
            ("torch._utils", "_rebuild_tensor_v2"): self.rebuild_tensor,
            ("torch._utils", "_rebuild_parameter"): self.rebuild_parameter,
            ("torch.nn.parameter", "Parameter"): _Parameter,
            **{(m, name): dtype for m in torch_modules for name, dtype in STORAGES.items()},
        }
        super().__init__(file, stand_ins, encoding="utf-8")
        self.storage = storage

    def persistent_load(self, pid: tuple) -> np.ndarray:
        """The storage ("storage", dtype, key, device, count[, view]), as a flat array."""
        kind, dtype, key, _, count, *view = pid
        if kind != "storage" or any(v is not None for v in view) or not isinstance(dtype, np.dtype):
            raise ValueError(f"it has a storage of an unknown kind, {kind!r}")
        return self.storage(str(key), dtype, count)

    def rebuild_tensor(
        self, storage: np.ndarray, offset: int, shape: tuple, strides: tuple, *_: Any
    ) -> np.ndarray:
        """A view of a storage; NumPy checks that it lies inside."""
        if math.prod(shape) > storage.size:
            raise ValueError("a tensor is larger than its storage")
        size = storage.itemsize
        return np.ndarray(
            shape, storage.dtype, storage, offset * size, tuple(s * size for s in strides)
        )

    def rebuild_parameter(self, data: np.ndarray, *_: Any) -> np.ndarray:
        """The tensor of a parameter."""
        return data


def read_pth(file: BinaryIO) -> dict[str, Any]:
    """What torch.save wrote of a state dict, or of a dict that holds one under "state_dict"."""
    is_zip = file.read(4) == b"PK\x03\x04"
    file.seek(0)
    tensors = _read_zip(file) if is_zip else _read_legacy(file)
    if not isinstance(tensors, dict):
        raise ValueError(f"it holds a {type(tensors).__name__}, not a state dict")
    for wrapper in ("state_dict", "model"):
        if isinstance(tensors.get(wrapper), dict):
            tensors = tensors[wrapper]
    return {k: v.data if isinstance(v, _Parameter) else v for k, v in tensors.items()}


def _read_zip(file: BinaryIO) -> dict[str, Any]:
    """The format since PyTorch 1.6: a zip archive of data.pkl and one file a storage."""
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        roots = [n.removesuffix("/data.pkl") for n in names if n.endswith("/data.pkl")]
        if len(roots) != 1:
            raise ValueError("it is a zip archive without a data.pkl, or with several")
        root = roots[0]
        if f"{root}/byteorder" in names and archive.read(f"{root}/byteorder") != b"little":
            raise ValueError("its byte order is not little-endian")

        def storage(key: str, dtype: np.dtype, count: int) -> np.ndarray:
            record = f"{root}/data/{key}"
            if archive.getinfo(record).file_size != count * dtype.itemsize:
                raise ValueError(f"storage {key} has another size than it says")
            return np.frombuffer(archive.read(record), dtype)

        with archive.open(f"{root}/data.pkl") as pickled:
            return StateDictUnpickler(pickled, storage).load()


def _read_legacy(file: BinaryIO) -> dict[str, Any]:
    """The format before PyTorch 1.6: five pickles, then the elements of every storage."""
    size = os.fstat(file.fileno()).st_size
    storages: dict[str, np.ndarray] = {}

    def storage(key: str, dtype: np.dtype, count: int) -> np.ndarray:
        if count * dtype.itemsize > size:
            raise ValueError(f"storage {key} is larger than the file")
        return storages.setdefault(key, np.empty(count, dtype))  # filled below

    def load() -> Any:
        return StateDictUnpickler(file, storage).load()

    if load() != LEGACY_MAGIC or load() != LEGACY_PROTOCOL:
        raise ValueError("it does not begin as a file of torch.save")
    if not load()["little_endian"]:
        raise ValueError("its byte order is not little-endian")
    tensors, keys = load(), [str(key) for key in load()]
    if set(keys) != set(storages):
        raise ValueError("its list of storages is not that of its tensors")
    for key in keys:
        count = int.from_bytes(_read(file, 8), "little")
        if count != storages[key].size:
            raise ValueError(f"storage {key} has another size than it says")
        storages[key].view("u1")[:] = np.frombuffer(_read(file, storages[key].nbytes), "u1")
    return tensors


def _read(file: BinaryIO, count: int) -> bytes:
    """`count` bytes."""
    data = file.read(count)
    if len(data) != count:
        raise EOFError("it ends too early")
    return data


def read_safetensors(file: BinaryIO) -> dict[str, np.ndarray]:
    """The format of https://github.com/huggingface/safetensors."""
    # The library reads bfloat16 from a path, but not from bytes.
    with open_tensors(Path(file.name)) as tensors:
        return {name: tensors.read(name) for name in tensors.names()}


def read_npz(file: BinaryIO) -> dict[str, np.ndarray]:
    """What np.savez wrote; pickled objects are not read."""
    with np.load(file, allow_pickle=False) as archive:
        tensors = {name: archive[name] for name in archive.files}
    # NumPy's format knows bfloat16 only as two bytes.
    return {k: v.view(BFLOAT16) if v.dtype == "V2" else v for k, v in tensors.items()}
