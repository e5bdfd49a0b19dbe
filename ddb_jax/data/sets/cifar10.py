"""Reading CIFAR-10 (Krizhevsky 2009): the official pickled batches, or one .npz file.

The batches are pickles, which can run code when they are read. These are read so that they cannot:
the five names that the official files use are replaced by stand-ins that only store their
arguments, every other name is refused, and no function named in a file is called.
"""

import io
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ddb_jax.models.restricted_pickle import RefusedPickle, RestrictedUnpickler

CLASS_NAMES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
BATCHES = {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)}
BATCH_SIZE = 10_000
_FOLDER = "cifar-10-batches-py"


def read_cifar10(root: Path) -> dict[str, Any]:
    """Images and labels, in the order of the files.

    Args:
        root: Folder with the official batches, or with a folder `cifar-10-batches-py` of them, or
            with one .npz; or that .npz itself. It has `train_images`, `train_labels`, `test_images`
            and `test_labels`, and where it is a part of CIFAR-10 `train_batch` (1 to 5),
            `train_index` and `test_index` (0 to 9,999) say which.

    Returns:
        `train_images` and `test_images`, uint8 [N, 32, 32, 3]; `train_labels` and `test_labels`,
        int32 [N]; `train_positions` and `test_positions`, int32 [N], where each image is in the
        whole of CIFAR-10; `class_names`.

    Raises:
        FileNotFoundError: There is neither form, or a batch is missing.
        ValueError: A file is damaged, is another one, or is a pickle that asks for anything else
            than an array of bytes.
    """
    archive = root if root.is_file() else next(iter(sorted(root.glob("*.npz"))), None)
    folder = next((f for f in (root, root / _FOLDER) if (f / "data_batch_1").is_file()), None)
    if folder is not None:
        found = _read_batches(folder)
    elif archive is not None:
        found = _read_npz(archive)
    else:
        raise FileNotFoundError(
            f"there are no CIFAR-10 batches and no .npz in {root};"
            " `python -m ddb_jax.data.download cifar10` gets them."
        )
    for split in ("train", "test"):
        _check(found, split, archive if folder is None else folder)
    return {**found, "class_names": CLASS_NAMES}


def _check(found: dict[str, np.ndarray], split: str, path: Path) -> None:
    images, labels = found[f"{split}_images"], found[f"{split}_labels"]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (32, 32, 3):
        raise ValueError(
            f"the {split} images in {path} are {images.dtype} {list(images.shape)},"
            " CIFAR-10's are uint8 [N, 32, 32, 3]."
        )
    lengths = {len(images), len(labels), len(found[f"{split}_positions"])}
    if len(lengths) > 1 or not len(images):
        raise ValueError(
            f"{path} has {len(images):,} {split} images but {len(labels):,} {split} labels and"
            f" {len(found[f'{split}_positions']):,} positions."
        )
    if labels.min() < 0 or labels.max() >= len(CLASS_NAMES):
        raise ValueError(f"the {split} labels in {path} are not all 0 to {len(CLASS_NAMES) - 1}.")


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        # Opened here, because np.load leaves a file open that it cannot read.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read as an .npz of plain arrays ({error}).") from None
    missing = {f"{s}_{what}" for s in ("train", "test") for what in ("images", "labels")} - {
        *arrays
    }
    if missing:
        raise ValueError(f"{path} has no array {', '.join(sorted(missing))}.")
    found = {}
    for split in ("train", "test"):
        images = arrays[f"{split}_images"]
        # As int64: the files hold unsigned integers, whose differences wrap around.
        index = arrays.get(f"{split}_index", np.arange(len(images))).astype(np.int64)
        batch = arrays.get(f"{split}_batch", np.int64(1)).astype(np.int64)
        found[f"{split}_images"] = images
        found[f"{split}_labels"] = arrays[f"{split}_labels"].astype(np.int32)
        found[f"{split}_positions"] = ((batch - 1) * BATCH_SIZE + index).astype(np.int32)
    return found


def _read_batches(folder: Path) -> dict[str, np.ndarray]:
    found = {}
    for split, names in BATCHES.items():
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise FileNotFoundError(
                f"there is no {', '.join(missing)} in {folder};"
                " `python -m ddb_jax.data.download cifar10` gets it."
            )
        parts = [_read_batch(folder / name) for name in names]
        images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        found[f"{split}_images"], found[f"{split}_labels"] = images, labels
        found[f"{split}_positions"] = np.arange(len(images), dtype=np.int32)
    return found


def _read_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [N, 32, 32, 3] and int32 [N] of one batch, which stores channel, row, column."""
    batch = _read_pickle(path)
    data, labels = (batch.get(name) for name in (b"data", b"labels"))
    if not hasattr(data, "content") or not isinstance(labels, list):
        raise ValueError(f"{path} is not a CIFAR-10 batch: it has no data or no labels.")
    _, shape, dtype, by_column, content = data.content
    if (
        not (isinstance(shape, tuple) and len(shape) == 2 and shape[1] == 3 * 32 * 32)
        or getattr(dtype, "name", None) not in (b"u1", "u1")
        or by_column
        or not isinstance(content, bytes)
        or len(content) != math.prod(shape)
        or not all(type(label) is int for label in labels)
    ):
        raise ValueError(f"{path} is not a CIFAR-10 batch, or it is damaged; download it again.")
    images = np.frombuffer(content, np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), np.array(labels, np.int32)


def _read_pickle(path: Path) -> dict[Any, Any]:
    """The dictionary in a pickle of Python or NumPy; arrays are objects with `content`."""

    # A new class for every file, so that a file cannot change them for the next one.
    class Array:
        def __setstate__(self, state: Any) -> None:
            self.content = state if isinstance(state, tuple) and len(state) == 5 else (None,) * 5

    class Dtype:
        def __init__(self, name: Any, *_: Any) -> None:
            self.name = name

        def __setstate__(self, state: Any) -> None:
            pass

    def new_array(*_: Any) -> Array:
        return Array()

    def encode(text: Any, *_: Any) -> bytes:  # how Python 3 writes bytes for Python 2
        return text.encode("latin1")

    stand_ins = {
        ("numpy.core.multiarray", "_reconstruct"): new_array,
        ("numpy._core.multiarray", "_reconstruct"): new_array,
        ("numpy", "ndarray"): Array,
        ("numpy", "dtype"): Dtype,
        ("_codecs", "encode"): encode,
    }

    file = io.BytesIO(path.read_bytes())
    try:
        content = RestrictedUnpickler(file, stand_ins, encoding="bytes").load()
    except RefusedPickle as error:
        raise ValueError(
            f"{path} is refused: as a pickle it asks for {error}, which CIFAR-10 does not need."
        ) from None
    # A pickle's instructions can fail in any way on what they are given.
    except Exception as error:
        raise ValueError(f"{path} is damaged or no pickle ({type(error).__name__}).") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a CIFAR-10 batch: it is no dictionary.")
    return content
