"""What is known of a shard of decoded images and of the originals that it was made from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ddb_jax.data.images.decode import DecodedImage
from ddb_jax.data.images.facts import ImageFacts
from ddb_jax.runtime.files import DamagedFile, read_json

# Size, time of change of the content and of the entry in nanoseconds. Programs that write back a
# file's old time cannot write back the last. Empty where there is no file.
Stamp = tuple[int, ...]


class Read(NamedTuple):
    """An original, read and decoded.

    Attributes:
        image: The image, or an error. An OSError means that it was not read, which may work later;
            a ValueError, that it cannot be used.
        content: Hash of the file; "" where that is not a file.
    """

    image: DecodedImage | OSError | ValueError
    content: str = ""


@dataclass(frozen=True)
class Originals:
    """Where the images come from.

    Attributes:
        read: Reads and decodes the image of a path; called from several threads.
        stamp: The stamp of a path's file. It is asked for before the file is read.
        content: Hash of a path's file as it is now.
    """

    read: Callable[[str], Read]
    stamp: Callable[[str], Stamp] = lambda path: ()
    content: Callable[[str], str] = lambda path: ""


@dataclass(frozen=True)
class ShardRecord:
    """What is known of a shard.

    Attributes:
        bytes: Length of its file.
        sha256: Hash of its decoded images.
        grey_bits: See `Rules`; by which its images of deep grey were decoded.
        broken: Path -> reason of the images that cannot be used.
        images: Facts of the others, in the order of the shard.
        stamps: Of the originals of all its paths.
        contents: Their hashes.
    """

    bytes: int
    sha256: str
    grey_bits: int
    broken: dict[str, str]
    images: tuple[ImageFacts, ...]
    stamps: tuple[Stamp, ...]
    contents: tuple[str, ...]

    @property
    def has_deep_grey(self) -> bool:
        """Whether the pixels of some image depend on `grey_bits`."""
        return any(image.grey_high >= 0 for image in self.images)


@dataclass(frozen=True)
class CachedShard:
    """A part of the images.

    Attributes:
        file: The ArrayRecord file; its records are the images that are not broken, in order.
        paths: Paths of all its images, including broken ones.
    """

    file: Path
    paths: tuple[str, ...]

    @property
    def record_file(self) -> Path:
        """Where its record is."""
        return self.file.with_suffix(".json")

    def kept(self, broken: dict[str, str]) -> list[str]:
        """The paths of its records, in order."""
        return [path for path in self.paths if path not in broken]

    def record(self) -> ShardRecord | None:
        """What is known of it, or None if the shard has to be made."""
        try:
            known = read_json(self.record_file)
            record = ShardRecord(
                bytes=int(known["bytes"]),
                sha256=known["sha256"],
                grey_bits=int(known["grey_bits"]),
                broken=dict(known["broken"]),
                images=tuple(ImageFacts(*facts) for facts in known["images"]),
                stamps=tuple(map(tuple, known["stamps"])),
                contents=tuple(known["contents"]),
            )
            whole = record.bytes == self.file.stat().st_size
            counts = len(record.stamps) == len(record.contents) == len(self.paths)
            return record if whole and counts else None
        except (OSError, ValueError, KeyError, TypeError, DamagedFile):
            return None  # missing, damaged, or of another version: the images are decoded again
