"""A folder of decoded images: ArrayRecord shards, filled by several threads, resumable.

Next to each shard is a JSON file of the same name, its record: what its images are, which of them
are broken, and by what it is told that the originals have not changed. A shard whose two files
agree with each other and with the originals is never made again.
"""

import contextlib
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from ddb_jax.data.images.decode import DecodedImage
from ddb_jax.data.images.facts import facts_of
from ddb_jax.data.images.records import write_shard
from ddb_jax.data.images.shard_record import CachedShard, Originals, Read, ShardRecord, Stamp
from ddb_jax.runtime.errors import Interrupted
from ddb_jax.runtime.files import write_atomically
from ddb_jax.runtime.lock import Lock, try_lock
from ddb_jax.runtime.progress import Progress
from ddb_jax.runtime.stop import StopFlag

SHARD_IMAGES = 1000
SHARD_BYTES = 64 << 20
LOCK_POLL_SECONDS = 0.2

log = logging.getLogger("ddb_jax")


def divide(folder: Path, paths: Sequence[str], image_bytes: int) -> list[CachedShard]:
    """The shards of these images: up to 1,000 images or 64 MiB each, whichever is less."""
    size = max(1, min(SHARD_IMAGES, SHARD_BYTES // image_bytes))
    return [
        CachedShard(folder / f"shard-{first // size:05d}.arrayrecord", tuple(paths[first:][:size]))
        for first in range(0, len(paths), size)
    ]


def fill(
    shards: Sequence[CachedShard],
    originals: Originals,
    *,
    grey_bits: int,
    keep: Callable[[ShardRecord], bool] = lambda record: True,
    title: str,
    num_threads: int,
    stop: StopFlag | None = None,
) -> list[ShardRecord]:
    """Make the shards that are incomplete or whose originals have changed; returns all records.

    If another process makes shards in this folder, this one waits. The order of the records does
    not depend on the threads.

    Args:
        shards: All shards of one folder.
        originals: The images all have one shape once decoded.
        grey_bits: By which `originals` decodes; written to the records.
        keep: Whether a shard of this record may stay as it is.
        title: Title of the progress line.
        num_threads: At least 1.
        stop: Asked after every image.

    Raises:
        ValueError: The folder cannot be written to.
        Interrupted: `stop` was set; whole shards are kept.
    """

    def current(tell: bool) -> list[ShardRecord | None]:
        return [_current(shard, originals, keep, tell) for shard in shards]

    records = current(tell=False)
    if None in records:
        with _held(shards[0].file.parent, stop):
            records = current(tell=True)  # another process may have made them
            _fill(shards, records, originals, grey_bits, title, num_threads, stop)
    return records


def _current(
    shard: CachedShard, originals: Originals, keep: Callable[[ShardRecord], bool], tell: bool
) -> ShardRecord | None:
    """The record of a shard that need not be made; None of any other, and why is told."""
    record = shard.record()
    if record is None:
        if tell and shard.record_file.exists():
            log.info("%s is missing or cut short: its images are decoded again", shard.file)
        return None
    if not keep(record):
        return None
    stamps = tuple(map(originals.stamp, shard.paths))
    if stamps == record.stamps:
        return record
    # Copied, moved or written again: the content tells whether anything is new.
    changed = [
        path
        for path, now, then, content in zip(
            shard.paths, stamps, record.stamps, record.contents, strict=True
        )
        if now != then and (not now or originals.content(path) != content)
    ]
    if changed:
        if tell:
            log.info(
                "%s and %d more files have changed since they were decoded: %s is made again",
                changed[0],
                len(changed) - 1,
                shard.file,
            )
        return None
    record = replace(record, stamps=stamps)
    with contextlib.suppress(OSError):  # a cache that is only read: hashed again at the next start
        _write_record(shard, record)
    return record


def _fill(
    shards: Sequence[CachedShard],
    records: list[ShardRecord | None],
    originals: Originals,
    grey_bits: int,
    title: str,
    num_threads: int,
    stop: StopFlag | None,
) -> None:
    """Makes every shard whose record is None, and puts its record into the list."""
    total = sum(len(shard.paths) for shard in shards)
    done = sum(len(s.paths) for s, r in zip(shards, records, strict=True) if r is not None)
    progress = Progress(title, total, start=done, unit="images")
    pool = ThreadPoolExecutor(num_threads)
    try:
        for number, shard in enumerate(shards):
            if records[number] is not None:
                continue
            stamps = tuple(map(originals.stamp, shard.paths))
            results = []
            for result in pool.map(originals.read, shard.paths):
                if stop:
                    raise Interrupted(
                        f"stopped while {title}: {done:,} of {total:,} images are done;"
                        " run the same command to resume.",
                        128 + stop.signal,
                    )
                results.append(result)
                progress.update(done + len(results))
            records[number] = _write(shard, results, stamps, grey_bits)
            done += len(results)
    finally:
        pool.shutdown(cancel_futures=True)
        progress.close()


def _write(
    shard: CachedShard, results: list[Read], stamps: tuple[Stamp, ...], grey_bits: int
) -> ShardRecord:
    images = [result.image for result in results if isinstance(result.image, DecodedImage)]
    failed = {
        path: result.image
        for path, result in zip(shard.paths, results, strict=True)
        if isinstance(result.image, Exception)
    }
    unknown = np.full(len(images), -1)
    with writing(shard.file.parent):
        pixels = np.array([image.pixels for image in images], np.uint8)
        write_shard(shard.file, pixels, unknown, unknown)
        record = ShardRecord(
            bytes=shard.file.stat().st_size,
            sha256=hashlib.sha256(pixels).hexdigest(),
            grey_bits=grey_bits,
            broken={path: _reason(error) for path, error in failed.items()},
            images=facts_of(images),
            stamps=stamps,
            contents=tuple(result.content for result in results),
        )
        if not any(isinstance(error, OSError) for error in failed.values()):
            _write_record(shard, record)
    return record


def _write_record(shard: CachedShard, record: ShardRecord) -> None:
    # On one line: an indented file of so many numbers takes a tenth of the time of decoding.
    write_atomically(shard.record_file, json.dumps(vars(record)), every_process=True)


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error)


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns a write error into one sentence.

    Raises:
        ValueError: The block could not write.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:  # array_record raises the latter on a full disk
        reason = getattr(error, "strerror", None) or str(error).split(";")[0]
        raise ValueError(
            f"the decoded images cannot be written to {folder} ({reason}):"
            " make room there, or give another folder with config.data.cache."
        ) from error


@contextlib.contextmanager
def _held(folder: Path, stop: StopFlag | None) -> Iterator[None]:
    """Make the folder and lock it for this process; the lock ends with the process."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a")
    with lock:
        told = False
        # Files that appear whole under their names keep a second process harmless.
        second = "a second process decodes the same images again"
        while (state := try_lock(lock, unprotected=second)) is Lock.TAKEN:
            if not told:
                log.info("another process is decoding into %s: waiting for it", folder)
                told = True
            if stop:
                raise Interrupted(
                    f"stopped while waiting for another process to decode into {folder}.",
                    128 + stop.signal,
                )
            time.sleep(LOCK_POLL_SECONDS)
        if state is Lock.HELD:
            for leftover in folder.glob(".shard-*.tmp"):  # of a process that was killed
                leftover.unlink(missing_ok=True)
        yield
