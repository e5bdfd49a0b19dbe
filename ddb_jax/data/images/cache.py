"""A folder of decoded images: ArrayRecord shards, filled by several threads, resumable.

Next to each shard is a JSON file of the same name with its length, its broken images and a hash of
the others. A shard whose two files exist and agree is never made again.
"""

import contextlib
import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddb_jax.data.images.records import write_shard
from ddb_jax.runtime.errors import Interrupted
from ddb_jax.runtime.files import DamagedFile, read_json, write_json
from ddb_jax.runtime.lock import Lock, try_lock
from ddb_jax.runtime.progress import Progress
from ddb_jax.runtime.stop import StopFlag

SHARD_IMAGES = 1000
SHARD_BYTES = 64 << 20
LOCK_POLL_SECONDS = 0.2

log = logging.getLogger("ddb_jax")

# Result of decoding: the pixels, or an error. An OSError means that the image was not read, which
# may work later; a ValueError, that it cannot be used.
Decoded = np.ndarray | OSError | ValueError


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
    def verdict_file(self) -> Path:
        """What is known of the shard."""
        return self.file.with_suffix(".json")

    def verdict(self) -> dict[str, str] | None:
        """Path -> reason of its broken images, or None if the shard has to be made."""
        try:
            known = read_json(self.verdict_file)
            whole = known["bytes"] == self.file.stat().st_size and "sha256" in known
            return dict(known["broken"]) if whole else None
        except (OSError, ValueError, KeyError, TypeError, DamagedFile):
            return None  # missing, damaged, or of another version: the images are decoded again

    def pixels_hash(self) -> str:
        """SHA-256 of its decoded images; "" where one of them could not be read yet."""
        return read_json(self.verdict_file)["sha256"] if self.verdict_file.exists() else ""


def divide(folder: Path, paths: Sequence[str], image_bytes: int) -> list[CachedShard]:
    """The shards of these images: up to 1,000 images or 64 MiB each, whichever is less."""
    size = max(1, min(SHARD_IMAGES, SHARD_BYTES // image_bytes))
    return [
        CachedShard(folder / f"shard-{first // size:05d}.arrayrecord", tuple(paths[first:][:size]))
        for first in range(0, len(paths), size)
    ]


def fill(
    shards: Sequence[CachedShard],
    decode: Callable[[str], Decoded],
    *,
    title: str,
    num_threads: int,
    stop: StopFlag | None = None,
) -> dict[str, str]:
    """Make the incomplete shards; returns path -> reason for all broken images.

    If another process makes shards in this folder, this one waits. The order of the records does
    not depend on the threads.

    Args:
        shards: All shards of one folder.
        decode: Called from `num_threads` threads; the images all have one shape.
        title: Title of the progress line.
        num_threads: At least 1.
        stop: Asked after every image.

    Raises:
        ValueError: The folder cannot be written to.
        Interrupted: `stop` was set; whole shards are kept.
    """
    verdicts = [shard.verdict() for shard in shards]
    if None in verdicts:
        folder = shards[0].file.parent
        with _held(folder, stop):
            verdicts = _fill(shards, decode, title, num_threads, stop)
    return {path: reason for verdict in verdicts for path, reason in verdict.items()}


def _fill(
    shards: Sequence[CachedShard],
    decode: Callable[[str], Decoded],
    title: str,
    num_threads: int,
    stop: StopFlag | None,
) -> list[dict[str, str]]:
    verdicts = [shard.verdict() for shard in shards]
    total = sum(len(shard.paths) for shard in shards)
    done = sum(len(s.paths) for s, v in zip(shards, verdicts, strict=True) if v is not None)
    progress = Progress(title, total, start=done, unit="images")
    pool = ThreadPoolExecutor(num_threads)
    try:
        for number, shard in enumerate(shards):
            if verdicts[number] is not None:
                continue
            if shard.verdict_file.exists():
                log.info("%s is missing or cut short: its images are decoded again", shard.file)
            results = []
            for result in pool.map(decode, shard.paths):
                if stop:
                    raise Interrupted(
                        f"stopped while {title}: {done:,} of {total:,} images are done;"
                        " run the same command to resume.",
                        128 + stop.signal,
                    )
                results.append(result)
                progress.update(done + len(results))
            verdicts[number] = _write(shard, results)
            done += len(results)
    finally:
        pool.shutdown(cancel_futures=True)
        progress.close()
    return verdicts


def _write(shard: CachedShard, results: list[Decoded]) -> dict[str, str]:
    images = [result for result in results if isinstance(result, np.ndarray)]
    failed = {
        path: result
        for path, result in zip(shard.paths, results, strict=True)
        if isinstance(result, Exception)
    }
    broken = {path: _reason(error) for path, error in failed.items()}
    unknown = np.full(len(images), -1)
    with writing(shard.file.parent):
        pixels = np.array(images, np.uint8)
        write_shard(shard.file, pixels, unknown, unknown)
        if not any(isinstance(error, OSError) for error in failed.values()):
            length = shard.file.stat().st_size
            sha256 = hashlib.sha256(pixels).hexdigest()
            verdict = {"bytes": length, "broken": broken, "sha256": sha256}
            write_json(shard.verdict_file, verdict, every_process=True)
    return broken


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
