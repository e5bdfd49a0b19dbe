"""Images in ArrayRecord shards, the form in which synthetic images are kept.

One record is one image: label and index as little-endian int32, then the uint8 pixels row by row,
8 + H * W * 3 bytes. Over all shards of a set the indices are 0..N-1, in any order.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import grain
import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter

from ddb_jax.data.source import ArraySource, Example, Source

HEADER = np.dtype([("label", "<i4"), ("index", "<i4")])
RECORDS_PER_READ = 1024


def write_shard(
    path: str | Path, images: np.ndarray, labels: np.ndarray, indices: np.ndarray
) -> None:
    """Write one shard; the file appears under its name only when it is whole.

    Args:
        path: File to write, in a folder that exists.
        images: uint8 [N, H, W, 3].
        labels: int [N].
        indices: int [N], the images' numbers in the whole set.

    Raises:
        ValueError: The images are not uint8, or the arrays differ in length.
    """
    if images.dtype != np.uint8:
        raise ValueError(f"images must be uint8, not {images.dtype}.")
    if not len(images) == len(labels) == len(indices):
        raise ValueError(
            f"there are {len(images)} images, {len(labels)} labels and {len(indices)} indices."
        )
    path = Path(path)
    headers = np.empty(len(images), HEADER)
    headers["label"], headers["index"] = labels, indices
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        # Groups of one record allow random access.
        writer = ArrayRecordWriter(str(temporary), "group_size:1")
        for header, image in zip(headers, images, strict=True):
            writer.write(header.tobytes() + image.tobytes())
        writer.close()
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class RecordSource(Source):
    """Images read from shards when asked for, ordered by their index; their bias is unknown.

    Args:
        paths: The shards.
        image_shape: (height, width, 3) of every image.

    Raises:
        FileNotFoundError: A shard is missing.
        ValueError: A shard is cut short, corrupt or of another image shape (named), or an index is
            missing or given twice.
    """

    def __init__(self, paths: Sequence[str | Path], image_shape: tuple[int, int, int]) -> None:
        self.image_shape = tuple(image_shape)
        self._files = [Path(path) for path in paths]
        self._shards = [_open(path) for path in self._files]
        headers = [self._read_headers(shard) for shard in range(len(self._shards))]
        # (shard, record) of every image, first in the order of the files, then by index.
        places = [(s, r) for s, part in enumerate(headers) for r in range(len(part))]
        joined = np.concatenate([np.empty(0, HEADER), *headers])
        by_index = np.argsort(joined["index"], kind="stable")
        wrong = np.flatnonzero(joined["index"][by_index] != np.arange(len(joined)))
        if len(wrong):
            raise ValueError(
                f"the {len(self._files)} shards in {self._files[0].parent} hold {len(joined)}"
                f" images, but number {wrong[0]} is missing or there is one twice."
            )
        self._places = np.array(places, np.int64).reshape(-1, 2)[by_index]
        self.labels = joined["label"][by_index].astype(np.int32)
        self.bias = np.full(len(joined), -1, np.int32)
        self.paths = tuple(f"{self._files[s].name}/{r}" for s, r in self._places)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Example:
        index = range(len(self))[index]
        return {name: values[0] for name, values in self.gather(np.array([index])).items()}

    def gather(self, indices: np.ndarray) -> Example:
        """One read per shard that is touched."""
        images = np.empty((len(indices), *self.image_shape), np.uint8)
        shards, records = self._places[indices].T
        for shard in np.unique(shards):
            here = shards == shard
            images[here] = self._read(shard, records[here])["pixels"]
        return {
            "image": images,
            "label": self.labels[indices],
            "bias": self.bias[indices],
            "index": np.asarray(indices, np.int32),
        }

    def _read_headers(self, shard: int) -> np.ndarray:
        """Reads every record, which also finds the damaged ones at once."""
        parts = [np.empty(0, HEADER)]
        for first in range(0, len(self._shards[shard]), RECORDS_PER_READ):
            last = min(first + RECORDS_PER_READ, len(self._shards[shard]))
            parts.append(self._read(shard, np.arange(first, last))["header"])
        return np.concatenate(parts)

    def _read(self, shard: int, records: np.ndarray) -> np.ndarray:
        layout = np.dtype([("header", HEADER), ("pixels", np.uint8, self.image_shape)])
        path = self._files[shard]
        try:
            data = self._shards[shard].__getitems__(records.tolist())
        except RuntimeError as error:  # how array_record reports a bad checksum
            raise ValueError(f"{path} is corrupt ({_reason(error)}).") from None
        if any(len(record) != layout.itemsize for record in data):
            raise ValueError(f"{path} does not hold images of shape {self.image_shape}.")
        return np.frombuffer(b"".join(data), layout)


def load_records(paths: Sequence[str | Path], image_shape: tuple[int, int, int]) -> ArraySource:
    """All images of the shards in memory, ordered by index.

    Raises:
        FileNotFoundError, ValueError: As `RecordSource`.
    """
    source = RecordSource(paths, image_shape)
    images = source.gather(np.arange(len(source)))["image"]
    return ArraySource(images, source.labels, source.bias, source.paths)


def _open(path: Path) -> grain.sources.ArrayRecordDataSource:
    if not path.exists():
        raise FileNotFoundError(f"there is no shard {path}.")
    try:
        return grain.sources.ArrayRecordDataSource([str(path)])
    except RuntimeError as error:
        raise ValueError(f"{path} is not a whole ArrayRecord file ({_reason(error)}).") from None


def _reason(error: Exception) -> str:
    return str(error).split(";")[0] or "it ends too early"
