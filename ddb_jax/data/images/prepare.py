"""Image files decoded once: a `Listing` becomes a cache of decoded images, then a `Dataset`.

A cache holds every file of the listing once, ordered by path regardless of its split, so that new
labels or new splits do not need decoding again.
"""

import contextlib
import csv
import hashlib
import io
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ddb_jax.data.images.cache import divide, fill, writing
from ddb_jax.data.images.decode import Rules, check_rules, decode_image
from ddb_jax.data.images.facts import ImageFacts, grey_bits_in_use
from ddb_jax.data.images.records import RecordSource, Shards, in_memory
from ddb_jax.data.images.shard_record import CachedShard, Originals, Read, ShardRecord, Stamp
from ddb_jax.data.listing import Files, Listing, keep_copies_together
from ddb_jax.data.source import Dataset, Example
from ddb_jax.runtime.errors import UserError
from ddb_jax.runtime.files import write_atomically
from ddb_jax.runtime.stop import StopFlag

DECODER_VERSION = 2  # increase it when decode_image gives different pixels
MEMORY_BYTES = 1 << 30


def load_listing(
    listing: Listing,
    *,
    rules: Rules,
    cache_dir: Path,
    max_broken: int = 0,
    num_threads: int = 0,
    open_image: Callable[[str], bytes | Image.Image] | None = None,
    content_key: str = "",
    stop: StopFlag | None = None,
    memory_bytes: int = MEMORY_BYTES,
) -> Dataset:
    """Decode what the cache lacks, and open the cache.

    A cache is found by the paths and lengths of all files and by the rules. What is in it is known
    by the content of the files, which are read again where their times have changed. A file that
    could not be read (rather than decoded) is tried again at every start.

    Args:
        listing: Has a train, a validation and a test split.
        rules: How images become pixels; the set itself tells how many bits of deep grey are in use.
        cache_dir: Folder of the caches of all data sets; several processes may share it.
        max_broken: How many images may be unusable; they are left out of their splits.
        num_threads: Threads that decode; 0 is one for each core.
        open_image: Where the images are not files: gives the image of a path of the listing, as
            `decode_image` takes it; called from several threads. One path is one image, in
            whichever split.
        content_key: With `open_image`: stands for the content where files have length and time.
        stop: Asked while images are decoded.
        memory_bytes: The images are held in memory when all splits together are no larger than
            this, else they are read when asked for.

    Raises:
        ValueError: More than `max_broken` images cannot be used, the cache cannot be written to,
            or an argument is wrong.
        UserError: The cache is damaged inside; reading from the sources may raise it too.
        Interrupted: `stop` was set; complete shards are kept.
    """
    check_rules(rules)
    if (open_image is None) != (content_key == ""):
        raise ValueError("open_image and content_key go together.")
    paths = sorted({path for files in listing.splits.values() for path in files.paths})
    digest = _cache_key(content_key or _lengths(listing.root, paths), rules, paths)
    size = rules.image_size
    folder = cache_dir / f"{listing.name}-{size}px-{rules.resize}-{digest}"
    image_shape = (size, size, 3)
    shards = divide(folder, paths, int(np.prod(image_shape)))

    records = _fill(
        shards,
        lambda rules: _opened(open_image, rules) if open_image else _files(listing.root, rules),
        rules,
        title=f"preparing {listing.name} {size} px",
        num_threads=num_threads or os.cpu_count() or 1,
        stop=stop,
    )
    broken = {path: reason for record in records for path, reason in record.broken.items()}
    shown = {path if open_image else str(listing.root / path): broken[path] for path in broken}
    warnings = _judge(shown, listing.name, len(paths), max_broken, folder / "broken.csv")

    listing = keep_copies_together(listing, _contents(shards, records))
    splits = {split: _without(files, broken) for split, files in listing.splits.items()}
    sources = _open(shards, broken, splits, image_shape)
    num_images = sum(len(files.paths) for files in splits.values())
    if num_images * int(np.prod(image_shape)) <= memory_bytes:
        sources = {split: in_memory(source) for split, source in sources.items()}
    return Dataset(
        name=listing.name,
        **sources,
        class_names=listing.class_names,
        bias_names=listing.bias_names,
        notes=listing.notes,
        bias_attributes=listing.bias_attributes,
        bias_is_marker=listing.bias_is_marker,
        published_counts=listing.published_counts,
        fingerprint=" ".join(record.sha256 for record in records),
        warnings=(*listing.warnings, *warnings),
        images=_facts(shards, records, splits),
        broken=shown,
    )


def _fill(
    shards: Sequence[CachedShard],
    originals: Callable[[Rules], Originals],
    rules: Rules,
    **options: Any,
) -> list[ShardRecord]:
    """`fill`, and again for deep grey of which the set uses fewer bits than it was decoded for."""
    records = fill(shards, originals(rules), grey_bits=rules.grey_bits, **options)
    bits = grey_bits_in_use(image for record in records for image in record.images)
    if all(record.grey_bits == bits or not record.has_deep_grey for record in records):
        return records
    return fill(
        shards,
        originals(rules._replace(grey_bits=bits)),
        grey_bits=bits,
        keep=lambda record: record.grey_bits == bits or not record.has_deep_grey,
        **options,
    )


def _files(root: Path, rules: Rules) -> Originals:
    """Files below a folder."""

    def read(path: str) -> Read:
        try:
            data = (root / path).read_bytes()
        except OSError as error:
            return Read(error)
        return _decoded(data, rules, hashlib.sha256(data).hexdigest())

    def content(path: str) -> str:
        try:
            return hashlib.sha256((root / path).read_bytes()).hexdigest()
        except OSError:
            return ""

    return Originals(read, lambda path: _stamp(root / path), content)


def _opened(open_image: Callable[[str], bytes | Image.Image], rules: Rules) -> Originals:
    """Images that are not files."""

    def read(path: str) -> Read:
        try:
            data = open_image(path)
        except (OSError, ValueError) as error:
            return Read(error)
        return _decoded(
            data, rules, hashlib.sha256(data).hexdigest() if isinstance(data, bytes) else ""
        )

    return Originals(read)


def _decoded(data: bytes | Image.Image, rules: Rules, content: str) -> Read:
    try:
        return Read(decode_image(data, rules), content)
    except (OSError, ValueError) as error:
        return Read(error, content)


def _stamp(path: Path) -> Stamp:
    with contextlib.suppress(OSError):
        found = os.stat(path)
        if stat.S_ISREG(found.st_mode):
            return (found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return ()


def _cache_key(content_key: str, rules: Rules, paths: Sequence[str]) -> str:
    """The end of a cache's name: a hash of what is in it and of how it was decoded."""
    key = f"{content_key} {DECODER_VERSION} {rules.background}\n"
    return hashlib.sha256(os.fsencode(key + "\n".join(paths))).hexdigest()[:16]


def _lengths(root: Path, paths: Sequence[str]) -> str:
    """The files' lengths; a missing file is noticed when it is read."""
    return " ".join(str((*_stamp(root / path), 0)[0]) for path in paths)


def _judge(
    broken: Mapping[str, str], name: str, num_images: int, max_broken: int, file: Path
) -> tuple[str, ...]:
    """List the broken images in `file`; refuse them, or give a warning that they are left out."""
    rows = io.StringIO()
    csv.writer(rows, lineterminator="\n").writerows([("path", "reason"), *broken.items()])
    content = os.fsencode(rows.getvalue())
    with writing(file.parent):
        if not broken:
            file.unlink(missing_ok=True)
            return ()
        if not file.exists() or file.read_bytes() != content:
            write_atomically(file, content, every_process=True)
    count = f"{len(broken):,} of {num_images:,} images of {name}"
    if len(broken) > max_broken:
        path, reason = next(iter(broken.items()))
        resize = ", set config.data.resize" if "resizing is off" in reason else ""
        raise ValueError(
            f"{count} cannot be used, the first is {path}: {reason}; all are listed in {file}:"
            f" fix or delete them{resize}, or allow as many with config.data.max_broken."
        )
    return (f"{count} cannot be used and are left out; they are listed in {file}.",)


def _contents(shards: Sequence[CachedShard], records: Sequence[ShardRecord]) -> dict[str, str]:
    """The hash of every path's content."""
    return {
        path: content
        for shard, record in zip(shards, records, strict=True)
        for path, content in zip(shard.paths, record.contents, strict=True)
    }


def _facts(
    shards: Sequence[CachedShard], records: Sequence[ShardRecord], splits: Mapping[str, Files]
) -> dict[str, tuple[ImageFacts, ...]]:
    """The facts of every image of every split, in its order."""
    of = {
        path: facts
        for shard, record in zip(shards, records, strict=True)
        for path, facts in zip(shard.kept(record.broken), record.images, strict=True)
    }
    return {split: tuple(of[path] for path in files.paths) for split, files in splits.items()}


def _without(files: Files, broken: Mapping[str, str]) -> Files:
    kept = [i for i, path in enumerate(files.paths) if path not in broken]
    return files.select(np.array(kept, np.int64))


def _open(
    shards: Sequence[CachedShard],
    broken: Mapping[str, str],
    splits: Mapping[str, Files],
    image_shape: tuple[int, int, int],
) -> dict[str, RecordSource]:
    """The splits, read from the cache when asked for."""
    kept = [[path for path in shard.paths if path not in broken] for shard in shards]
    place = {path: (s, r) for s, part in enumerate(kept) for r, path in enumerate(part)}
    with _damage_named():
        opened = Shards([shard.file for shard in shards], image_shape)
        for file, size, part in zip(opened.paths, opened.sizes, kept, strict=True):
            if size != len(part):
                raise ValueError(f"{file} holds {size} images instead of {len(part)}.")
    sources = {}
    for split, files in splits.items():
        places = np.array([place[path] for path in files.paths], np.int64).reshape(-1, 2)
        sources[split] = _CachedSource(opened, places, files.labels, files.bias, files.paths)
    return sources


class _CachedSource(RecordSource):
    """Reports a damaged shard, even in the middle of training, with the way to repair it."""

    def gather(self, indices: np.ndarray) -> Example:
        with _damage_named():
            return super().gather(indices)


@contextlib.contextmanager
def _damage_named() -> Iterator[None]:
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        raise UserError(
            f"{str(error).rstrip('.')}; remove it, and its images are decoded again."
        ) from error
