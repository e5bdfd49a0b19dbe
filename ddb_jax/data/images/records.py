"""Images in ArrayRecord shards, the storage of synthetic and decoded images.

One record is one image: label and index as little-endian int32, then the uint8 pixels row by row,
8 + H * W * 3 bytes. Over all shards of a set of synthetic images the indices are 0..N-1, in any
order; shards of decoded images, whose labels and order are kept elsewhere, have -1 for both.
"""

import os
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from ddb_jax.data.source import ArraySource, Example, Source
from ddb_jax.runtime.files import local_copy

HEADER = np.dtype([("label", "<i4"), ("index", "<i4")])
RECORDS_PER_READ = 1024


def write_shard(
    path: str | Path, images: np.ndarray, labels: np.ndarray, indices: np.ndarray
) -> None:
    """Write one shard; the file gets its name only when it is complete.

    Args:
        path: File to write, in a folder that exists.
        images: uint8 [N, H, W, 3].
        labels: int [N].
        indices: int [N], the images' numbers in the whole set.

    Raises:
        ValueError: The images are not uint8, or the arrays differ in length.
        OSError, RuntimeError: It could not be written; array_record raises the latter when the
            disk is full.
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
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        # Groups of one record allow random access. Compression would save a quarter on photographs
        # and make them several times slower to write and read.
        writer = ArrayRecordWriter(str(temporary), "group_size:1,uncompressed")
        for header, image in zip(headers, images, strict=True):
            writer.write(header.tobytes() + image.tobytes())
        writer.close()
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class Shards:
    """ArrayRecord files of images, held open; may be read from several threads.

    Args:
        paths: The files.
        image_shape: (height, width, 3) of every image.

    Raises:
        FileNotFoundError: A shard is missing.
        ValueError: A shard is cut short or corrupt (named), as far as its footer tells.
    """

    def __init__(self, paths: Sequence[str | Path], image_shape: tuple[int, int, int]) -> None:
        self.paths = [Path(path) if isinstance(path, str) else path for path in paths]
        self.image_shape = tuple(image_shape)
        self._readers = [_open(path) for path in self.paths]
        self.sizes = [reader.num_records() for reader in self._readers]

    def read(self, shard: int, records: Sequence[int]) -> list[bytes]:
        """The records at these positions of a shard.

        Raises:
            ValueError: They are corrupt or of another image shape.
        """
        path = self.paths[shard]
        try:
            data = self._readers[shard].read(records)
        except (RuntimeError, IndexError) as error:  # the first is how a bad checksum is reported
            raise ValueError(f"{path} is corrupt ({_reason(error)}).") from None
        length = HEADER.itemsize + int(np.prod(self.image_shape))
        if any(len(record) != length for record in data):
            raise ValueError(f"{path} does not hold images of shape {self.image_shape}.")
        return data


class RecordSource(Source):
    """Images read from shards when asked for.

    Args:
        shards: Where they are.
        places: (shard, record) of every image, int [N, 2].
        labels: int [N].
        bias: int [N], -1 where unknown.
        paths: Id of every image.
    """

    def __init__(
        self,
        shards: Shards,
        places: np.ndarray,
        labels: np.ndarray,
        bias: np.ndarray,
        paths: Sequence[str],
    ) -> None:
        self.image_shape = shards.image_shape
        self.labels, self.bias = np.asarray(labels, np.int32), np.asarray(bias, np.int32)
        self.paths = paths
        self._shards, self._places = shards, places

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Example:
        index = range(len(self))[index]
        return {name: values[0] for name, values in self.gather(np.array([index])).items()}

    def gather(self, indices: np.ndarray) -> Example:
        """One read per shard that is touched.

        Raises:
            ValueError: A shard is corrupt or of another image shape.
        """
        images = np.empty((len(indices), *self.image_shape), np.uint8)
        shards, records = self._places[indices].T
        for shard in np.unique(shards):
            here = np.flatnonzero(shards == shard)
            data = self._shards.read(shard, records[here].tolist())
            for position, record in zip(here, data, strict=True):
                pixels = np.frombuffer(record, np.uint8, offset=HEADER.itemsize)
                images[position] = pixels.reshape(self.image_shape)
        return {
            "image": images,
            "label": self.labels[indices],
            "bias": self.bias[indices],
            "index": np.asarray(indices, np.int32),
        }


def open_records(paths: Sequence[str | Path], image_shape: tuple[int, int, int]) -> RecordSource:
    """The images of shards that carry labels and indices, ordered by index; their bias is unknown.

    Reads every record once, which also finds the damaged ones.

    Raises:
        FileNotFoundError: A shard is missing.
        ValueError: A shard is cut short, corrupt or of another image shape (named), or an index is
            missing or given twice.
    """
    shards = Shards(paths, image_shape)
    headers, places = [np.empty(0, HEADER)], []
    for shard, size in enumerate(shards.sizes):
        places += [(shard, record) for record in range(size)]
        for first in range(0, size, RECORDS_PER_READ):
            data = shards.read(shard, range(first, min(first + RECORDS_PER_READ, size)))
            starts = b"".join(record[: HEADER.itemsize] for record in data)
            headers.append(np.frombuffer(starts, HEADER))
    joined = np.concatenate(headers)
    by_index = np.argsort(joined["index"], kind="stable")
    wrong = np.flatnonzero(joined["index"][by_index] != np.arange(len(joined)))
    if len(wrong):
        raise ValueError(
            f"the {len(shards.paths)} shards in {shards.paths[0].parent} hold {len(joined)}"
            f" images, but number {wrong[0]} is missing or there is one twice."
        )
    ordered = np.array(places, np.int64).reshape(-1, 2)[by_index]
    names = tuple(f"{shards.paths[s].name}/{r}" for s, r in ordered)
    unknown = np.full(len(joined), -1, np.int32)
    return RecordSource(shards, ordered, joined["label"][by_index], unknown, names)


def load_records(paths: Sequence[str | Path], image_shape: tuple[int, int, int]) -> ArraySource:
    """`open_records` with all images in memory.

    Raises:
        FileNotFoundError, ValueError: As `open_records`.
    """
    return in_memory(open_records(paths, image_shape))


def in_memory(source: RecordSource) -> ArraySource:
    """The same examples, their images read now.

    Raises:
        ValueError: As `RecordSource.gather`.
    """
    images = source.gather(np.arange(len(source)))["image"]
    return ArraySource(images, source.labels, source.bias, source.paths)


def _open(path: Path) -> ArrayRecordReader:
    if not path.exists():
        raise FileNotFoundError(f"there is no shard {path}.")
    # An open copy can still be read after its name is deleted.
    with local_copy(path) as local:
        reader = ArrayRecordReader(str(local))
    if not reader.ok():  # opening does not raise, closing does
        try:
            reader.close()
            reason = "it ends too early"
        except RuntimeError as error:
            reason = _reason(error)
        raise ValueError(f"{path} is not a whole ArrayRecord file ({reason}).")
    return reader


def _reason(error: Exception) -> str:
    return str(error).split(";")[0]
